#!/bin/sh
# The tests; PY names the Python. Where CI is set, the chapters run as in Colab beside the rest, on the core that the browser leaves idle.
set -u
if [ "${CI:-}" != true ]; then exec "$PY" -m pytest; fi
"$PY" -m pytest tests/test_colab.py >_build/colab.log 2>&1 &
colab=$!
trap 'kill $colab 2>/dev/null' INT TERM
"$PY" -m pytest --ignore=tests/test_colab.py
rest=$?
wait $colab
alone=$?
cat _build/colab.log
[ $rest -eq 0 ] && [ $alone -eq 0 ]
