# What a person runs to test and to deploy s3ferry. `make` says what there is.

GLOBAL_REGION ?= $(call setting,global)
CHINA_REGION  ?= $(call setting,china)
ARGS ?=

vulncheck := golang.org/x/vuln/cmd/govulncheck@v1.9.0
lint := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
platforms := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# The region of a side, as cdk.json has it.
setting = $(shell node -p "require('./cdk.json').context.s3ferry.$(1).region")

.DEFAULT_GOAL := help
.PHONY: help test lint vulnerabilities synth bootstrap deploy-global deploy-china diff release profile

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

test: ## run every test
	go test ./...

lint: ## run the linters
	go run $(lint) run ./...

vulnerabilities: ## look for known ones in what is reached; asks vuln.go.dev
	go run $(vulncheck) ./...

synth: node_modules ## synthesize both stacks
	npx cdk synth --quiet $(ARGS)

bootstrap: node_modules ## prepare accounts for CDK, once: make bootstrap GLOBAL=profile CHINA=profile
	@test -n "$(GLOBAL)$(CHINA)" || { echo 'whose accounts? make bootstrap GLOBAL=profile CHINA=profile' >&2; exit 2; }
	$(if $(GLOBAL),npx cdk bootstrap 'aws://*/$(GLOBAL_REGION)' --profile $(GLOBAL) $(ARGS))
	$(if $(CHINA),npx cdk bootstrap 'aws://*/$(CHINA_REGION)' --profile $(CHINA) $(ARGS))

# --exclusively builds the functions of this stack only.
deploy-global: profile node_modules ## deploy the sender: make deploy-global PROFILE=name
	npx cdk deploy --exclusively GlobalSender --profile $(PROFILE) $(ARGS)

deploy-china: profile node_modules ## deploy the receiver: make deploy-china PROFILE=name
	npx cdk deploy --exclusively ChinaReceiver --profile $(PROFILE) $(ARGS)

diff: profile node_modules ## show what a deployment would change: make diff PROFILE=name STACK=ChinaReceiver
	@test -n "$(STACK)" || { echo 'which stack? make diff PROFILE=name STACK=GlobalSender or STACK=ChinaReceiver' >&2; exit 2; }
	npx cdk diff --exclusively $(STACK) --fail-on destructive --profile $(PROFILE) $(ARGS)

profile:
	@test -n "$(PROFILE)" || { echo 'whose account? make $(MAKECMDGOALS) PROFILE=name' >&2; exit 2; }

node_modules: package-lock.json
	npm ci
	@touch node_modules

release: $(platforms:%=dist/s3ferry-%) ## build the s3ferry command for every platform into dist/
	cd dist && sha256sum s3ferry_* > SHA256SUMS

# The go command records the version, which is the tag of a clean checkout.
dist/s3ferry-%:
	@mkdir -p dist
	CGO_ENABLED=0 GOOS=$(*D) GOARCH=$(*F) go build -trimpath -buildvcs=true -ldflags='-s -w' -o dist/s3ferry_$(*D)_$(*F)$(if $(filter windows,$(*D)),.exe) ./cmd/s3ferry
