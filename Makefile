PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: setup demo test lint docs

setup: $(VENV)/installed

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	touch $@

demo: setup
	$(RUN) -m experiment.main paper/sipp/digits/cascade/resnet20.yaml

test: setup
	$(RUN) -m ruff check
	$(RUN) -m pytest --numprocesses auto --maxprocesses 8

docs: setup  # the tables of README.md and the schema of experiment files, as the code has them
	$(RUN) -m tools.documentation
