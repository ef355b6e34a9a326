# One command a target; "make" alone lists them.
.DEFAULT_GOAL := help
.PHONY: unit help build docs screenshots demo test check fuzz bench scale long kills follow health drain versions relay relay-cost package package-test salts clean

# A tag, or the next release and the commit.
VERSION   := $(shell git describe --tags --match 'v[0-9]*' --exact-match 2>/dev/null || echo "$$(cat VERSION)+$$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)")
FUZZTIME  ?= 5m
STORE     ?= sqlite

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/phoenix, one static binary
	@CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/phoenix ./bridge/cmd/phoenix

docs: build ## docs/reference.md and the tables of docs/doctor.md, made from the code
	@bin/phoenix man --markdown >docs/reference.md
	@text="$$(bin/phoenix man --doctor docs/doctor.md)" && printf '%s\n' "$$text" >docs/doctor.md

screenshots: ## the pictures of the page and of status --watch in docs/images, by a headless Chromium
	@PHOENIX_SCREENSHOTS="$(CURDIR)/docs/images" go test -count=1 -run '^TestScreenshots$$' ./bridge/ui ./bridge/cli

demo: build ## real masters and minions: who is let in, and what follows when a master dies
	@go run ./lab/install 3007
	@go run ./lab/demo $(STORE)

test: ## all of it: check, unit tests with the race detector, fuzzing, five real Salts: 20 minutes
	@scripts/test

unit: ## the fast loop: tests that need nothing but Go, in under a minute when warm; packages that wait run beside others
	@CGO_ENABLED=0 go test -p 5 -short ./bridge/... ./cloudformation/...

check: ## formatting, vet, staticcheck, tidy modules; edits nothing
	@scripts/check

fuzz: ## each fuzz target for FUZZTIME (5m)
	@scripts/fuzz $(FUZZTIME)

bench: build ## what it costs, against other ways, on a real master: one table in 8 minutes
	@go run ./lab/install 3007
	@go run ./lab/bench

scale: build ## fleets of up to 3,000 from launch to highstate, against Salt alone: one table in 15 minutes
	@go run ./lab/install 3007 3008
	@go run ./lab/scale

long: build ## two tests in full length: a state run that hangs for 10 minutes, 10,000 auth requests at once
	@go run ./lab/install 3007 3008
	@PHOENIX_LONG=1 go test -count=1 -v -timeout 60m -run '^(TestG12_HungStateRun|TestG12_ManyAuthRequests)$$' ./lab/e2e

kills: build ## masters die under minions, by kill -9 and by silence: how long those are alone: an hour
	@go run ./lab/install 3007 3008
	@go run ./lab/kills

follow: build ## minions that follow two masters, as one dies or cannot be reached, and what it costs, on three Salts: an hour
	@go run ./lab/install
	@PHOENIX_FOLLOW=1 go test -count=1 -parallel 1 -timeout 120m -v -run '^(TestFollowSeveral|TestFollowCost|TestStrModeWithUnreachableMaster)$$' ./lab/e2e

versions: build ## what make test runs on one or two Salts, on all three: half an hour
	@go run ./lab/install
	@go test -count=1 -v -timeout 90m -run '^(TestAdminSeesEventsAndDecisions|TestDoctor|TestRoster|TestMinionsLeft|TestG3_ImpostorAtReplacement|TestReplacementServesFirstAuthRequest|TestRebuiltMachine)$$' ./lab/e2e -args -versions.all
	@go test -count=1 -v -timeout 30m -run '^TestFixes$$' ./bridge/doctor -args -versions.all

health: build ## masters that only look alive, gates that are not passed, a key that is replaced, on each Salt: an hour
	@go run ./lab/install
	@go test -count=1 -v -parallel 1 -timeout 150m -run '^(TestMasterThatOnlyLooksAlive|TestReadyGate|TestMovesFromHalfDeadMaster|TestHealedOnce|TestMinionAndChangedMasterKey|TestRotateIdentity)$$' ./lab/e2e -args -versions.all

drain: build ## how long 20 minions are silent as their master is drained, and its spot instance ends: 10 minutes
	@go run ./lab/install 3007
	@go test -count=1 -v -timeout 40m -run '^TestMinionsLeaveDrainedMaster$$' ./lab/e2e -args -versions.all -drain.minions=20

package: ## .deb and .rpm for amd64 and arm64 in dist/, the same bytes for the same commit
	@packaging/build

package-test: ## install, run, upgrade and purge them on a Debian of its own, set up machines; as root
	@scripts/package-test

relay: build ## each of Salt's commands over three masters, on three Salts: an hour on two cores
	@go run ./lab/install
	@PHOENIX_RELAY_SALTS="3006.30 3007.17 3008.5" go test -count=1 -parallel 1 -timeout 120m -run '^(TestRealMasters|TestG11_Relay|TestG11_FollowSeveral)$$' ./bridge/member ./lab/e2e

relay-cost: build ## what the relay costs, against one master and against minions on two: one table in 5 minutes
	@go run ./lab/install 3007
	@go run ./lab/relaycost

salts: ## install the five Salts that tests run on, below .cache
	@go run ./lab/install

clean: ## remove what was built and installed
	@rm -rf bin build dist .cache
