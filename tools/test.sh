#!/bin/sh
# The tests; PY names the Python. The slow ones are left out: .ci/run runs them afterwards.
exec "$PY" -m pytest "$@"
