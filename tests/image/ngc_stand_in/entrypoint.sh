#!/bin/bash
echo "the base's entry point ran"
exec "$@"
