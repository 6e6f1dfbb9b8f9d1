"""One gunicorn worker: routes, formats, models, places in flight, answers."""
