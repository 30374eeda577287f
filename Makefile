# `make book` makes the book, `make test` tests everything; both set up what they need. `make help` lists the rest.
VENV ?= .venv
PROFILE ?= auto
PY = $(VENV)/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup book test bench pdf serve text notebook tidy address lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.stamp  ## make or update the virtual environment
$(VENV)/.stamp: requirements.txt constraints.txt pyproject.toml tools/setup.sh
	@VENV=$(VENV) PYTHON="$(PYTHON)" sh tools/setup.sh
	@touch $@

book: setup  ## execute the notebooks and render _build/html (PROFILE=ci|laptop|gpu; NB=02 for one chapter's draft)
	@$(PY) -m tools.build --profile $(PROFILE) $(if $(NB),--only $(NB))

test: book lint  ## set up, build and test everything
	@CHECK_BUILT=1 PY=$(PY) sh tools/test.sh

lint: setup  ## style and spelling
	@$(PY) -m ruff check . && $(PY) -m codespell_lib

bench: setup  ## the timed comparisons, written to results/
	@$(PY) -m benchmarks

pdf: book  ## the book as one PDF, _build/vggbook.pdf (needs Chromium)
	@$(PY) -m tools.pdf

serve: book  ## show the book in a browser
	@$(PY) -m tools.serve

text: setup  ## a notebook as text: make text NB=02 writes _build/text/02_*.py
	@$(PY) -m tools.notebook to-text "$(NB)"

notebook: setup  ## and back: make notebook NB=02
	@$(PY) -m tools.notebook to-notebook "$(NB)"

tidy: setup  ## strip the notebooks' outputs and bring their form in order
	@$(PY) -m tools.notebook tidy

address: setup  ## write the repository's address everywhere: make address REPO=owner/name
	@$(PY) -m tools.address "$(REPO)"

clean:  ## remove what was built; the virtual environment stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
