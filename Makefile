# UMi. `make run` to try it, `make test` to check it; `make help` lists the rest.
PYTHON ?= python3.11
BIN := .venv/bin
PROCESSES ?= 2# of training: one for each GPU, or one single-threaded for each core
TRAIN = $(BIN)/torchrun --nproc-per-node $(PROCESSES) -m training
SYSTEMS ?= checkpoints/toolbench# of the paper, to compare
EXAMPLES ?= 300# requests for each operation and way
ASK ?= How far is the capital of Japan from Madrid?

.DEFAULT_GOAL := help
.PHONY: help setup run test test-compose test-ray test-deepspeed secrets check format tasks train bench-train bench-swap corpus-openapi chaos load \
	fuzz dashboards eval-examples eval-toolbench

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: ## install everything into .venv and prepare the backbone (nothing when nothing changed)
	@$(PYTHON) deploy/install.py

run: setup ## start roles, gateway and example tools, ask one query, stay up
	@$(BIN)/umi up --ask "$(ASK)"

test: setup ## every test, unit to end to end
	$(BIN)/python -m pytest

test-compose: setup ## docker-compose.yml, really run: built, asked, scaled, swapped, killed (10 minutes)
	$(BIN)/python -m benchmarks.compose

test-ray: setup ## deploy/ray, really run on a local cluster of two Ray nodes: deployed, asked, swapped, updated, a node killed
	$(BIN)/python -m deploy.ray.install
	.venv-ray/bin/python -m pytest tests/unit/test_ray.py tests/contract/test_ray_replicas.py
	.venv-ray/bin/python -m benchmarks.ray $(OPTIONS)

test-deepspeed: setup ## ZeRO-3 on two processes: DeepSpeed beside what is installed, and the tests of many processes
	$(BIN)/pip install -q --upgrade --no-deps --target var/deepspeed wheel==0.48.0 hjson==3.1.0 msgpack==1.2.4
	PYTHONPATH=var/deepspeed DS_BUILD_OPS=0 $(BIN)/pip install -q --upgrade --no-deps --no-build-isolation \
		--target var/deepspeed deepspeed==0.19.8
	PYTHONPATH=var/deepspeed $(BIN)/python -m pytest tests/contract/test_many_processes.py

secrets: ## the secret files that docker-compose.yml mounts, those that are missing
	@$(PYTHON) deploy/new_secrets.py

check: setup ## lint, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tasks: setup ## make the training and test tasks in var/tasks
	$(BIN)/python -m training tasks

train: tasks ## both stages of training into checkpoints/ (hours on two cores; goes on where it was interrupted)
	$(TRAIN) global
	for role in planner caller summarizer; do $(TRAIN) local $$role || exit 1; done

eval-toolbench: setup ## the paper's static metrics of its five systems, on trajectories: make eval-toolbench DATA=file (6 minutes a system)
	$(BIN)/python -m training static $(DATA) --systems $(SYSTEMS) $(OPTIONS)

bench-train: tasks ## prefix trees beside a plain TRL SFTTrainer: tokens per second and loss of both (8 minutes)
	$(BIN)/python -m benchmarks.training

bench-swap: setup ## weights swapped under load, broken versions, kill -9: a quarter of an hour on two cores
	UMI_THREADS=1 $(BIN)/python -m benchmarks.swap

corpus-openapi: setup ## import 2,639 real API documents, compare 5,000 requests with FastMCP's, look for operations (6 minutes)
	$(BIN)/python -m benchmarks.corpus imports
	$(BIN)/python -m benchmarks.corpus conformance
	$(BIN)/python -m benchmarks.corpus recall

chaos: setup ## kill gateways at random moments while 300 runs go on, on SQLite and PostgreSQL
	$(BIN)/python -m benchmarks.chaos

dashboards: setup ## the dashboards' queries on a real Prometheus that watches a real agent, drawn into docs/ (7 minutes; needs prometheus)
	$(BIN)/python -m benchmarks.dashboards $(OPTIONS)

load: setup ## what a run costs the gateway, beside two bare loops and LangGraph; 2,000 streams (8 minutes)
	$(BIN)/python -m benchmarks.load $(OPTIONS)

fuzz: setup ## thousands of requests from the OpenAPI document: none may be a 500 or off the document
	UMI_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/contract/test_fuzz.py --timeout 3600

eval-examples: tasks ## task success of the three roles and of the single model, through the running stack
	$(BIN)/python -m training evaluate
