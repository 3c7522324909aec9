# make test    everything that needs neither a SLURM nor a trainer; what was skipped says why
# make demo    plans real sweeps in ./demo, from a model folder, a dataset and logs
# make lint    ruff, mypy
# make bench   the numbers of benchmarks/, each beside its rival's
# make clean   removes the environment, the demo and what tools left
#
# Needs Python 3.11 or later with venv and pip; takes uv when it is there (faster).
#   EXTRAS=trainer,evaluation   installs these, so that the tests that need them run
#   RUNPLAN_NO_SKIP=1           makes a skipped test a failure
#   PYTEST_ARGS=…               more arguments for pytest, such as "-n 2"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: test demo lint bench clean

VENV := .venv
EXTRAS ?=
PYTEST_ARGS ?=
DEMO := demo

comma := ,
RUN := $(CURDIR)/$(VENV)/bin/python
INSTALLED := $(VENV)/.installed$(addprefix -,$(subst $(comma),-,$(EXTRAS)))

test: $(INSTALLED)
	$(RUN) -m pytest -rs $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

BENCHMARKS := startup plan accuracy timings priors status submit

# All of them, whatever one says.
bench: $(INSTALLED)
	@missed=; for name in $(BENCHMARKS); do $(RUN) benchmarks/$$name.py || missed="$$missed $$name"; done; \
	  [ -z "$$missed" ] || { echo "make bench: a target is missed in:$$missed" >&2; exit 1; }

# The README's own commands, on a model folder that is made here, and with logs of real runs.
demo: $(INSTALLED)
	rm -rf $(DEMO)
	mkdir $(DEMO)
	cp -R tasks $(DEMO)/tasks
	cp -R tests/data/logs $(DEMO)/logs
	cd $(DEMO) && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash ../.ci/demo.sh

clean:
	rm -rf $(VENV) $(DEMO) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- environment ----------------------------------------------------------------------------------------------------

# The first interpreter that is new enough.
$(VENV)/bin/python:
	@for python in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python -m venv $(VENV)"; exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo 'make: needs Python 3.11 or later with venv and pip; PYTHON=… says which' >&2; exit 1

# pip reads dependency groups from 25.1 on only: a requirements file serves every pip, and uv.
GROUP = $(RUN) -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'

# uv does not read pip's configuration: local wheels that pip is told of (find-links) are passed on, and where uv cannot
# install (no access to what pip is configured for), pip does.
FIND_LINKS = $$($(RUN) -m pip config list | sed -n "s/.*find-links='\(.*\)'/\1/p" | tr -s ' ' '\n' | sort -u | sed 's/^/--find-links /')
PIP_INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check $(1)
ifneq ($(shell uv --version 2>/dev/null),)
INSTALL = uv pip install --quiet --python $(RUN) $(FIND_LINKS) $(1) || $(PIP_INSTALL)
else
INSTALL = $(PIP_INSTALL)
endif

$(INSTALLED): $(VENV)/bin/python pyproject.toml
	$(GROUP) test >$(VENV)/test.txt
	$(call INSTALL,--editable '.$(addprefix [,$(addsuffix ],$(EXTRAS)))' --requirement $(VENV)/test.txt)
	touch $@

$(VENV)/.installed-lint: $(INSTALLED)
	$(GROUP) lint >$(VENV)/lint.txt
	$(call INSTALL,--requirement $(VENV)/lint.txt)
	touch $@
