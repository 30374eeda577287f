#!/bin/sh
# The tests; PY names the Python. Those in a browser run beside the others, and tell at the end. The slow ones are left
# out: .ci/run runs them afterwards.
set -u
mkdir -p _build
"$PY" -m pytest -m "browser and not slow" >_build/browser.log 2>&1 &
browser=$!
trap 'kill $browser 2>/dev/null; exit 130' INT TERM
"$PY" -m pytest -m "not browser and not slow"
rest=$?
wait $browser
seen=$?
cat _build/browser.log
[ $rest -eq 0 ] && [ $seen -eq 0 ]
