# `make book` makes the book, `make test` tests everything; both set up what they need. `make help` lists the rest.
VENV ?= .venv
# Not from the environment: sizes are chosen by what PyTorch sees, or on the command line.
PROFILE = auto
WEIGHTS = auto
PY = $(VENV)/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup always book test bench mutants pdf serve text notebook tidy address links lint form clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.stamp  ## make or update the virtual environment (PYTHON=python3.13 chooses one)
$(VENV)/.stamp: requirements.txt constraints.txt pyproject.toml setup.py tools/setup.sh $(if $(PYTHON),always)
	@VENV=$(VENV) PYTHON="$(PYTHON)" sh tools/setup.sh
	@touch $@
always:

book: setup  ## execute the notebooks and render _build/html (PROFILE=cpu|gpu; WEIGHTS=download|miniature; NB=02 for one chapter's draft)
	@$(PY) -m tools.build --profile $(PROFILE) --weights $(WEIGHTS) $(if $(NB),--only $(NB))

test: book form  ## set up, build and test everything
	@CHECK_BUILT=1 PY=$(PY) sh tools/test.sh

lint: form  ## form, style, spelling and types
	@$(PY) -m mypy

form: setup
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m codespell_lib

bench: setup  ## the timed comparisons, written to results/
	@$(PY) -m benchmarks

mutants: setup  ## would the unit tests see a bug? make mutants N=60 SEED=1 ONLY=data
	@$(PY) -m tools.mutants -n $(or $(N),60) --seed $(or $(SEED),1) $(if $(ONLY),--only $(ONLY))

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

links: setup  ## look whether the pages' links to other sites still lead somewhere (needs the network and a built book)
	@$(PY) -m tools.links

clean:  ## remove what was built; the virtual environment stays
	rm -rf _build build .pytest_cache .ruff_cache .mypy_cache .hypothesis
