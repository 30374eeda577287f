#!/bin/sh
# Publishing, in the order of .github/workflows/publish.yml. GITHUB_REPOSITORY names the repository, as GitHub sets it.
#   address    writes the address everywhere, and commits that on a branch "colab" of its own
#   downloads  puts the PDF and a zip of the pages beside the pages
#   push       pushes the branch "colab": what the pages' Colab buttons open and their install cells install
set -eu
cd "$(dirname "$0")/.."
PY=${PY:-.venv/bin/python}
BRANCH=colab
say() { printf 'publish: %s\n' "$*"; }
as_robot() { git -c user.name="the publishing workflow" -c user.email="noreply@users.noreply.github.com" "$@"; }

case "${1:-}" in
address)
    : "${GITHUB_REPOSITORY:?is not set: it names the repository, owner/name}"
    git checkout -q -B "$BRANCH"
    "$PY" -m tools.address "$GITHUB_REPOSITORY" "$BRANCH"
    git add -A
    if git diff --cached --quiet; then say "the address is there already"; else as_robot commit -q -m "The address of $GITHUB_REPOSITORY"; fi
    ;;
downloads)
    "$PY" -m tools.downloads
    ;;
push)
    git push -q --force origin "$BRANCH"
    say "branch $BRANCH is at $(git rev-parse --short HEAD)"
    ;;
*)
    echo "usage: sh tools/publish.sh address|downloads|push" >&2
    exit 2
    ;;
esac
