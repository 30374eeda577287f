#!/bin/sh
# The tests and the types; PY names the Python. Beside the tests that need no browser run those in one and the check of
# types, and tell at the end. The slow tests are left out: .ci/run runs them afterwards.
set -u
mkdir -p _build
"$PY" -m mypy >_build/types.log 2>&1 &
types=$!
"$PY" -m pytest -m "browser and not slow" >_build/browser.log 2>&1 &
browser=$!
trap 'kill $types $browser 2>/dev/null; exit 130' INT TERM
"$PY" -m pytest -m "not browser and not slow"
rest=$?
wait $browser
seen=$?
wait $types
typed=$?
cat _build/browser.log _build/types.log
[ $rest -eq 0 ] && [ $seen -eq 0 ] && [ $typed -eq 0 ]
