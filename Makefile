PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
OLDEST = .venv-oldest
RUN_OLDEST = $(OLDEST)/bin/python

.PHONY: setup demo test test-oldest docs pages

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
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(RUN) -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

# The tests once more, with every package at the oldest version that setup.cfg promises. Old
# versions may call what is deprecated by now (matplotlib 3.8 in pyparsing): no failure here.
test-oldest: $(OLDEST)/installed
	$(RUN_OLDEST) -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal -W default::DeprecationWarning

$(OLDEST)/installed: setup.cfg
	$(PYTHON) -m venv --clear $(OLDEST)
	sed -n 's/^    \(.*\)>=/\1==/p' setup.cfg > $(OLDEST)/requirements.txt
	$(RUN_OLDEST) -m pip install --quiet --requirement $(OLDEST)/requirements.txt 'pyparsing<3.3'
	touch $@

docs: setup  # the tables of the pages and the schema of experiment files, as the code has them
	$(RUN) -m tools.documentation

pages: setup  # of docs/, for the browser
	$(RUN) -m sphinx -q -W -b html docs build/docs
	@echo build/docs/index.html
