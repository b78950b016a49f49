# Every target makes what it needs from Python 3.11 or newer, git and make; the first
# one to run creates .venv, and a change of pyproject.toml brings it up to date.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CORE   := src/taskorch/core/kernel/*,src/taskorch/model/*,src/taskorch/events/*,src/taskorch/policies/*,src/taskorch/ext/budgets/_kernel.py

# A few at a time, and to the end even if one fails; each one's output in one piece where
# this make can do that.
AT_ONCE := $(MAKE) --no-print-directory --keep-going -j3 \
          $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

MINUTES ?= 10
# The tests run in a few processes at once; more than a small machine has cores, since
# many of them wait for time to pass.
MANY   := -n 6 --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Most of what is installed is never imported; what is, its first import compiles.
export PIP_COMPILE := 0
# Without what is compiled already, each of the many processes of the tests would do it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-check check quick test ci bench format clean \
        static style imports mypy pyright verifytypes \
        bench-against bench-quick docs docs-ci fast measured plain at-length pages others others-ready wheel newcomer release soak soak-ci \
        stress stress-ci mistakes compiled side-by-side laws deletion without

help:
	@echo 'make demo        run a large test suite through the orchestrator; stopped, it resumes;'
	@echo '                 it says where to look at it: make demo STAY=1 lets that page stay'
	@echo 'make demo-check  the same, and compare its counts with a plain pytest run'
	@echo 'make check       format, lint, types, import contracts and the quickest tests'
	@echo 'make test        all tests but the slow ones: ten minutes on two cores'
	@echo 'make ci          all that CI runs: the newest Python, coverage, wheel, docs and more'
	@echo 'make at-length   the slow tests, before a release and when what they try has changed'
	@echo 'make mistakes    plant thirty mistakes: would the tests notice?'
	@echo 'make without     all tests but those of an extension: make without NAME=views'
	@echo 'make soak        simulate fresh seeds: make soak MINUTES=10 (SEED=1 begins there)'
	@echo 'make laws        the laws over random examples, with other ones each time'
	@echo 'make stress      threads, signals, kills and takeovers: make stress MINUTES=10'
	@echo 'make bench       the benchmarks, on several: make bench PYTHONS="3.11 newest";'
	@echo '                 make bench-against REV=… beside another commit'
	@echo 'make wheel       what would be released, built and tested without src/'
	@echo 'make newcomer    the way of somebody who has the README and a wheel, by the clock'
	@echo 'make release     the same of a version, with its changelog: make release VERSION=1.0.0'
	@echo 'make docs        the documentation as a site'
	@echo 'make format      format the code and mend what ruff can mend'
	@echo 'make clean       remove all that was made here, the environment too'

# ------------------------------------------------------------------ environment

$(READY): pyproject.toml
	@python=$$(.ci/pythons $(PYTHON) | sed -n '1s/^[^ ]* //p'); \
	if [ -z "$$python" ]; then \
	    echo 'taskorch needs CPython 3.11 or newer with its venv module; none was found.' >&2; \
	    echo 'Say where one is: make PYTHON=/path/to/python3 ...' >&2; \
	    exit 1; \
	fi; \
	$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo "making $(VENV) with $$python"; "$$python" -m venv --clear $(VENV); }
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --group dev --editable .
	@mkdir -p build && touch $@

# ------------------------------------------------------------------------- demo

demo: $(READY)
	@$(BIN)/python examples/test_suite.py $(if $(STAY),--stay)

demo-check: $(READY)
	@$(BIN)/python examples/test_suite.py --compare

# ----------------------------------------------------------------------- checks

# The output of each part comes in one piece when that ends: meanwhile it is said what runs.
check: $(READY)
	@echo 'format, lint, imports, types (mypy, pyright) and the quickest tests, side by side: a minute'
	@$(AT_ONCE) static quick

# What a change waits for; the slow tests are not among it (docs/decisions/tests-and-checks.md).
# Each part runs to its end, whatever became of those before; the last lines name what failed.
PARTS := side-by-side others plain test

ci: export COVERAGE := 1
ci: $(READY)
	@mkdir -p build; all=; \
	for part in $(PARTS); do \
	    { $(MAKE) --no-print-directory $$part; echo $$? > build/$$part.code; } 2>&1 \
	        | tee build/$$part.log; \
	    [ "$$(cat build/$$part.code)" = 0 ] || all="$$all $$part"; \
	done; \
	[ -n "$$all" ] || exit 0; \
	echo; echo 'What failed:'; \
	for part in $$all; do \
	    grep -hE '^(FAILED|ERROR) |\*\*\* \[' build/$$part.log \
	        || echo "$$part: see build/$$part.log"; \
	done; \
	exit 1

side-by-side: $(READY)
	@echo 'side by side: stress, wheel, benchmarks, pages, soak, docs, lint, types; a few minutes'
	@$(AT_ONCE) others-ready stress-ci compiled wheel bench-quick pages deletion soak-ci docs-ci \
	    static verifytypes

static: style imports mypy pyright

style: $(READY)
	@$(BIN)/ruff format --quiet --check . || { echo 'mend it with: make format'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@echo 'format and lint: well'

imports: $(READY)
	@$(BIN)/lint-imports --no-cache > build/imports.log 2>&1 || { cat build/imports.log; exit 1; }
	@echo 'imports: well'

mypy: $(READY)
	@$(BIN)/mypy --no-error-summary
	@echo 'types, by mypy: well'

# It asks the first python on the PATH where the packages are.
pyright: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright > build/pyright.log \
	    || { cat build/pyright.log; exit 1; }
	@echo 'types, by pyright: well'

# Whether users of the package get complete types.
verifytypes: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes taskorch --ignoreexternal \
	    > build/verifytypes.log || { cat build/verifytypes.log; exit 1; }
	@echo 'types, as users see them: well'

# ------------------------------------------------------------------------ tests

# What decides, and what knows all files: there most mistakes show, in a minute. Nothing of
# the front ends, of what really runs and of what fails; no server of PostgreSQL, and no
# test that starts many interpreters; and a few examples of each law.
quick: $(READY)
	@$(BIN)/python -m pytest -q $(MANY) -m 'not slow' --hypothesis-profile=few \
	    tests/core tests/house/packaging tests/house/benchmarks tests/ext/recovery \
	    --ignore=tests/core/executors \
	    $(patsubst %,--ignore=tests/core/journal/test_%.py,postgres sql_journals copying) \
	    $(patsubst %,--ignore=tests/house/packaging/test_%.py,snippets examples night \
	        an_option_is_described_once a_verb_is_described_once import_cost import_contracts \
	        extensions)

# For a person: on this Python, with a few examples of each law. CI measures what it covers
# meanwhile.
test: $(if $(COVERAGE),measured,fast)

fast: $(READY) compiled
	@echo 'all tests but the slow ones: ten minutes on two cores; it says how far it is'
	@.ci/twice fast $(BIN)/python -m pytest -q $(MANY) -m 'not slow' --hypothesis-profile=few

# The first look at the tests compiles them, which each process would do for itself; and
# lists the files of which some are slow, each with their number. In two halves at once.
LOOK := $(BIN)/python -m pytest -qq --collect-only -m slow

compiled: build/slow.log
build/slow.log: $(READY) $(wildcard $(foreach at,* */* */*/* */*/*/*,tests/$(at).py))
	@$(LOOK) tests/[a-d]*/ > $@ & half=$$!; \
	$(LOOK) tests/[e-z]*/ > $@.more && wait $$half && cat $@.more >> $@ \
	    || { wait; cat $@ $@.more; rm $@; exit 1; }

# Measuring doubles the time of a test. So those are not measured whose lines others reach:
# they run as they are. What the tests start as processes of their own is measured only
# where those end by themselves; so the bound for all rooms is lower than that for the core.
TEXTS := tests/house/packaging tests/house/goldens
PLAIN := tests/worlds/invariants tests/ext/simulation/open

plain: compiled
	@echo 'the tests of which others reach the lines'
	@.ci/twice plain $(BIN)/python -m pytest -q $(MANY) -m 'not slow' \
	    --hypothesis-profile=few $(PLAIN)

measured: $(READY)
	@echo 'the fast tests, with their coverage'
	@$(BIN)/coverage erase
	@.ci/twice measured $(BIN)/coverage run -m pytest -q $(MANY) -m 'not slow' \
	    --hypothesis-profile=few $(addprefix --ignore=,$(TEXTS) $(PLAIN))
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=95
	@$(BIN)/coverage report --fail-under=100 --include='$(CORE)'

# Each process is given one at a time, since some take half a minute; and there are six of
# them, since most tests wait for programs that they start. Beside much else some take
# minutes: what hangs fails by its own waits, long before the time that is given here.
at-length: build/slow.log
	@echo 'the slow tests'
	@.ci/twice at-length $(BIN)/python -m pytest -q -n 6 --dist load --maxschedchunk 1 \
	    --timeout 600 -m slow \
	    $$(sed -n 's/: [0-9]*$$//p' build/slow.log)

# What an extension is, one can delete: the acts of a user without each of them; and the tests
# of others without one on which many build.
deletion: $(READY)
	@$(BIN)/python -m pytest -q -m slow tests/house/packaging/test_extensions.py
	@.ci/without recovery tests/api/test_events.py tests/api/test_measured.py tests/ext/memo

# All tests without an extension and what needs it: make without NAME=views
without: $(READY)
	@.ci/without '$(NAME)' $(MANY) tests

# Would the tests notice what somebody does wrong? Thirty mistakes of the bank, others each
# time: make mistakes SEED=7 tries the same again. The first time it learns for an hour
# which tests reach what.
mistakes: $(READY)
	@[ -d build/reach ] || $(BIN)/python -m tests.house.tools.mistakes reach
	@$(BIN)/python -m tests.house.tools.mistakes try --sample 30 --seed $(or $(SEED),$(shell date +%s))

# The pages, the examples, the texts that users see, and what is packed: beside other things,
# where there is a processor left.
pages: compiled
	@.ci/twice pages $(BIN)/python -m pytest -q -m 'not slow' $(TEXTS)

others others-ready: $(READY)
	@echo 'the newest Python that is here: $@'
	@MANY='$(MANY)' .ci/other-pythons $(if $(filter others-ready,$@),prepare,test)

wheel: $(READY)
	@.ci/wheel

# The way of somebody who has the README and a wheel, by the clock.
newcomer: $(READY)
	@$(BIN)/python .ci/newcomer.py

# Cuts the version and the changelog, and leaves in dist/ what goes out, tested; it says what
# is left to do: make release VERSION=1.0.0rc1
release: $(READY)
	@.ci/release '$(VERSION)'

# Fresh seeds: they begin at the time of day, unless told otherwise.
soak: $(READY)
	@$(BIN)/python -m tests.house.tools.soak --minutes $(MINUTES) \
	    --seed $(or $(SEED),$(shell date +%s)) --jobs 2 --workflows --rooms

# The laws over random examples, each time with other ones; the tests elsewhere have the same
# examples every time, so that a change is judged by what it changed.
laws: $(READY)
	@$(BIN)/python -m pytest -q $(MANY) -m 'not slow' --hypothesis-profile=fresh \
	    $$(grep -rl --include='test_*.py' 'from hypothesis' tests)

# Half a minute, always from the same seeds: a change is judged by what it changed. To look
# for what nobody has seen is the work of make soak.
soak-ci: $(READY)
	@$(BIN)/python -m tests.house.tools.soak --minutes 0.25 --seed 1 --workflows --rooms

# What the simulator cannot see: make stress SEED=7 TIMES=20 runs one seed again.
stress: $(READY)
	@$(BIN)/python -m tests.worlds.stress --minutes $(MINUTES) \
	    --seed $(or $(SEED),$(shell date +%s)) $(if $(TIMES),--rounds 1 --times $(TIMES))

# A minute, from the same seed as well.
stress-ci: $(READY)
	@$(BIN)/python -m tests.worlds.stress --minutes 1 --seed 1

# Here, or on each Python named, and then the oldest and the newest side by side:
# make bench PYTHONS="3.11 3.15" ONLY='map latency'. The case psplib needs projects with
# known optima: make bench ONLY=psplib PSPLIB=folder
bench: $(READY)
	@PYTHONS='$(PYTHONS)' PAGE='$(PAGE)' .ci/benchmarks $(addprefix --only ,$(ONLY)) \
	    $(addprefix --psplib ,$(PSPLIB))

# Does everything that is measured work? Too small to judge by. It runs in an environment
# of others-ready, which no two may make at once.
bench-quick: others-ready
	@PYTHONS=newest .ci/benchmarks --quick

# This tree by turns with another commit: make bench-against REV=main ONLY='map latency'
bench-against: $(READY)
	@test -n '$(REV)' || { echo 'say beside what: make bench-against REV=main' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --group bench
	@$(BIN)/python -m pip install --quiet --no-deps --group bench-data
	@$(BIN)/python -m benchmarks.against $(REV) $(addprefix --only ,$(ONLY))

# The documentation as a site: build/docs/html/index.html. CI makes it with the plainest
# theme, since ours takes longer than all the rest of it and finds no further mistake. Then its
# search is asked for each word of others that the glossary names.
docs docs-ci: $(READY)
	@$(BIN)/python -m pip install --quiet --group docs
	@rm -rf build/docs && mkdir -p build/docs && cp -R docs build/docs/source
	@$(BIN)/python -m sphinx -W --keep-going -q -b html $(if $(filter docs-ci,$@),-D html_theme=basic) \
	    build/docs/source build/docs/html
	@$(BIN)/python tests/house/packaging/_search.py build/docs/html/searchindex.js
	@echo 'build/docs/html/index.html'

# ------------------------------------------------------------------- housekeeping

format: $(READY)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .demo .hypothesis .coverage .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
