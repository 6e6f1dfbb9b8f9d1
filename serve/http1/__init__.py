"""HTTP/1.1 between sockets and requests: parsing, limits, deadlines, drain, gzip, Accept. It knows no model."""
