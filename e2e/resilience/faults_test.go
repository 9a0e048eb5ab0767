package resilience_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// faults is what may go wrong, what is promised for it, and the tests that hold the promise. Common to all: nothing that was
// acknowledged is lost, nothing is half there, everybody ends at what the database has, by digest, and what lags can be seen
// while it does. docs/operating.md tells operators the same.
var faults = []struct {
	fault, promise string
	// tests are in this package, or named with their folder.
	tests []string
}{
	{
		"the control plane is killed at any hop of a change",
		"an answered change is there; an unanswered one is there whole or not at all; the same again makes no second revision",
		[]string{"TestControlPlaneKilledAtEveryHopLeavesAllOrNothing", "TestControlPlaneKilledAtRandomMomentsLosesNothing"},
	},
	{
		"the answer to a commit is lost", "the change is there; its sender is told that it is not known",
		[]string{"TestAnAnswerLostOnTheWayFromTheDatabase"},
	},
	{
		"a gateway is killed while it takes in a set, or writes its cache", "it starts from a whole set and ends at the newest",
		[]string{"TestAGatewayKilledWhileItFoldsComesBackWhole", "dataplane/internal/sealedcache.TestACrashAtAnyStepLeavesAFileThatOpens"},
	},
	{
		"the control plane is gone", "gateways go on; with a sealed cache they start, too",
		[]string{"TestGatewaysServeWithoutAControlPlane", "TestAGatewayStartsFromItsSealedCache"},
	},
	{
		"replicas and gateways come and go under load", "no request fails",
		[]string{"TestNobodyNoticesChangesCrashesAndReplacements", "TestNothingIsLostWhileGatewaysAreReplaced", "TestASocketIsHandedFromGatewayToGateway", "TestAGatewaySaysWhichSocketItMisses"},
	},
	{
		"the database is gone, frozen, or crashes under traffic", "reads and streams go on, writes are refused with 503 and come back by themselves",
		[]string{"TestDatabaseOutageStopsWritesOnly", "TestAFrozenDatabaseIsNotWaitedFor", "TestDatabaseCrashesUnderTrafficLoseNothing"},
	},
	{
		"fail-over to a synchronous standby in mid-commit", "nothing that was acknowledged is lost",
		[]string{"TestASynchronousFailoverLosesNothing"},
	},
	{
		"fail-over that loses changes, restore of an older backup", "it is reported; restore makes the database the truth: new epoch, the whole set to everybody",
		[]string{
			"TestAFailoverThatLosesChangesIsReportedAndRestored", "TestARestoredBackupBecomesTheTruth",
			"controlplane/internal/configsvc.TestARestoreBeginsANewEpochWhereChangesWereLost",
			"controlplane/internal/configsvc.TestAnotherRevisionOfTheSameNumberIsNoticed", "dataplane/internal/syncclient.TestOlderRevisionIsRefused",
		},
	},
	{
		"the database is put back while a keyring is being rewrapped", "nothing is sealed with a keyring that the database does not have any more",
		[]string{"TestNothingIsRewrappedInADatabaseThatWasPutBack", "controlplane/internal/store.TestAWalkEndsWhenTheKeyringIsNotTheOneItIsFor"},
	},
	{
		"any sequence of changes, broken streams, restarts and other replicas", "what a gateway enforces is what the database held at that revision",
		[]string{
			"TestWhateverHappensAGatewayHasWhatTheDatabaseHadAtItsRevision", "dataplane/internal/state.TestAnyPrefixAndResyncEqualsTheFullSet",
			"controlplane/internal/snapshot.TestFollowingEqualsLoading",
		},
	},
	{
		"notifications are lost", "a change takes no longer than a poll", []string{"TestLostNotificationsCostNoMoreThanAPoll"},
	},
	{
		"a partition, a half-open connection", "both sides say so within seconds; the gateway goes on, and converges when it is healed",
		[]string{"TestAPartitionIsSeenByBothSidesAndHeals", "TestPacketsThatAreLostAreNoticedByBothSides", "TestAGatewayThatVanishesIsForgotten"},
	},
	{
		"gateways that do not read", "others are not slowed, the control plane's memory is bounded",
		[]string{"TestReadersThatStopReadingSlowNobody"},
	},
	{
		"the disk of a gateway is full", "the gateway goes on and says so; the cache before stays whole",
		[]string{"TestAFullDiskCostsOnlyTheCache"},
	},
	{
		"two replicas race for a resource", "one history, in which every answered change has a revision",
		[]string{"TestTwoReplicasThatRaceForOneResourceMakeOneHistory"},
	},
	{
		"migration during traffic", "changes go on; a schema that is too new is refused by who starts, not by who runs",
		[]string{"TestMigrationUnderTraffic", "controlplane/internal/store.TestAMigrationAndAChangeThatDeadlockBothSucceed"},
	},
	{
		"the database rolls a change back for the sake of others", "it is tried again, answered once, and there once",
		[]string{"TestWhatIsRolledBackForOthersIsDoneOnceAllTheSame"},
	},
	{
		"gateways, replicas and command lines of the release before, or of the one after", "they work together; a migrated database serves both",
		[]string{
			"TestGatewaysOfTheNeighbouringReleaseKeepWorking", "TestTheCommandLineOfTheNeighbouringReleaseWorks",
			"TestReplicasOfTwoReleasesShareADatabase", "TestWhatOnlyTheControlPlaneUsesDoesNotHinderAnOlderGateway",
			"TestCertificatesDoNotHinderAnOlderGateway", "TestCertificatesDoNotOpenOlderGateways",
			"TestBoundKeysAreOfNoUseAtOlderGateways",
			"TestWhatThePreviousReleaseSaysMeansTheSame", "TestFaultsOfAContractAreFound",
		},
	},
	{
		"a gateway is too old for something", "what that guards is closed there, and reported; whoever changes it is warned before",
		[]string{"TestWhatAGatewayCannotRunIsClosedThereAndWarnedOf"},
	},
	{
		"another key-encryption key, altered rows", "nothing of it is enforced; check-db names it",
		[]string{"TestAnotherKEKOpensNothing", "TestTamperedRowsAreNamedAndNotEnforced", "TestTamperedAuditRowsAreFound", "TestRuntimeRoleOnlyAddsToTheAudit", "TestApplyWaitNamesWhatAGatewayRefuses"},
	},
	{
		"the key-encryption key is sealed, or its service is killed", "what is open goes on, changes too; new groups and keys are refused with 503; who starts waits for it",
		[]string{
			"TestVaultOutageStopsOnlyWhatNeedsANewWrap", "controlplane/internal/sealer.TestVaultIsSealedAtEachStep",
			"controlplane/internal/sealer.TestOpenRingsNeedNoKEK",
			"controlplane/internal/sealer.TestWithoutItsKEKNothingNewIsMadeAndOpenRingsGoOn",
		},
	},
	{
		"Vault, where secrets of the settings are, at a start and while connections to the database are made anew",
		"a replica waits, alive and not ready; one that runs goes on with the login it read last",
		[]string{
			"controlplane/app.TestAReplicaWaitsForWhoKeepsItsSettings", "controlplane/app.TestTheRoleOfTheDatabaseChangesUnderLoad",
		},
	},
	{
		"the key-encryption key is changed, by several replicas at once", "every keyring moves, none is lost, and nobody notices",
		[]string{
			"TestTheKEKMovesFromAFileToVaultUnderTraffic", "TestKeysOfAListAreExchangedInIt",
			"controlplane/internal/sealer.TestTwoReplicasMoveKeyringsAtOnce",
			"controlplane/internal/sealer.TestNothingMovesToAKEKThatDoesNotGiveBack",
			"controlplane/internal/sealer.TestAKEKChangeGoesOnWhereItWasInterrupted",
		},
	},
	{
		"replicas are killed while keyrings rotate; a replica cannot read the new one; two rotate at once",
		"it goes on elsewhere; nothing is sealed with what somebody has not read; an old term goes only when nothing is under it; no request fails",
		[]string{
			"TestAKeyringRotatesUnderTrafficWhileReplicasAreKilled",
			"controlplane/internal/rotation.TestNothingIsSealedWithATermThatAReplicaHasNotRead",
			"controlplane/internal/rotation.TestReplicasThatRotateAtOnceAddOneTermEachOrAreRefused",
			"controlplane/internal/rotation.TestAKeyEncryptionKeyThatIsAwayAtARotationChangesNothing",
		},
	},
	{
		"root and intermediate are rotated while a replica is killed and gateways are away", "nobody is locked out before the old root is retired, then it is good for nothing; no request fails, no stream is refused",
		[]string{
			"TestCertificateAuthoritiesRotateUnderTraffic", "TestAGatewayOfTheReleaseBeforeLivesThroughARotatedRoot", "controlplane/internal/pki.TestARootIsRotatedInStepsAndNobodyIsLockedOut",
			"controlplane/internal/trust.TestActivatingWaitsForEveryConnectedGateway", "controlplane/internal/trust.TestRetiringWaitsForGoodCertificates",
			"controlplane/internal/syncserver.TestStreamsUnderARetiredRootHaveToEnd", "dataplane/internal/syncclient.TestRootsThatAreNotKeptAreNotSaidToBeTrusted",
		},
	},
	{
		"the key-encryption key is lost", "with a backup of the keyrings and the recovery key everything opens again; gateways go on meanwhile",
		[]string{"TestKeyringsComeBackWhenTheirKeyIsLost", "controlplane/app.TestARestoreThatCannotBeWholeSaysSoAndLosesNothing"},
	},
	{
		"the database is lost for good", "a backup brings it back elsewhere, all of it, in new epochs; gateways take the whole set and say so; no request fails; who enrolled since stays",
		[]string{
			"TestALostDatabaseComesBackElsewhere", "TestALostDatabaseAndALostKeyComeBackByTheRecoveryKey", "TestARestoreUnderRunningReplicas",
			"controlplane/app.TestABackupBringsEverythingBack", "controlplane/app.TestOnlyARestoreMakesAReplicaBeginAnew", "controlplane/internal/store.TestAnOlderImageIsMigrated",
			"controlplane/internal/store.TestABackupKnowsEveryTable", "controlplane/internal/registry.TestAGatewayThatTheDatabaseForgotIsNotedAgain",
		},
	},
	{
		"a backup that is damaged, cut off, of other keys or another form; a restore that is killed", "nothing is written before all of it was verified; the database is empty or whole",
		[]string{
			"TestARestoreThatIsKilledLeavesTheDatabaseEmptyOrWhole", "controlplane/app.TestABackupIsRefusedBeforeAnythingIsWritten",
			"controlplane/app.TestARestoreReplacesOnlyWhenItIsTold", "controlplane/internal/backup.TestNothingAlteredIsTaken",
			"controlplane/internal/store.TestReplacingIsAllOrNothing",
		},
	},
	{
		"a cache with a flipped bit, cut off, older than seen", "it is refused as a whole, and replaced by the next configuration",
		[]string{
			"TestAGatewayStartsFromItsSealedCache", "dataplane/internal/sealedcache.TestRefusals",
			"dataplane/internal/sealedcache.TestEveryFlippedBitIsRefused",
		},
	},
	{
		"no control plane, no cache, and a gateway that is new", "it starts from the fallback bundle of its group, and from no other; it converges when the control plane is back",
		[]string{"TestANewGatewayStartsFromTheFallbackBundle"},
	},
	{
		"replicas are killed while old history is dropped", "it goes on elsewhere; what is kept can be shown and rolled back to; a hole in the baseline is named",
		[]string{"TestHistoryIsPrunedWhileReplicasAreKilled"},
	},
	{
		"the clock jumps", "a cache from the future, or that has become too old, is refused; certificates are renewed on return",
		[]string{"dataplane/internal/sealedcache.TestRefusals", "dataplane/internal/syncclient.TestExpiredCertificateIsRenewedOnReturn"},
	},
	{
		"an LDAP directory, Vault or the host of an issuer's keys is down, hangs or answers nonsense under load",
		"who needs it is answered 503 within the timeout, nobody is refused for it, who does not need it notices nothing; it is seen when it is back",
		[]string{
			"TestCallersWhileTheirDirectoryAils", "TestCallersWhileTheirVaultAils", "TestCallersWhileTheirKeysCannotBeFetched",
			"dataplane/internal/policies/ldapauth.TestOneLoginOverManyConnections",
		},
	},
	{
		"a push", "what was fetched, found out, counted and connected goes on, unless the push is about it",
		[]string{
			"dataplane/internal/policies/jwtauth.TestFetchedKeysOutlivePushes", "dataplane/internal/policies/jwtauth.TestARotationLosesNothing",
			"dataplane/internal/policies/jwtauth.TestUsedProofsOutlivePushes", "dataplane/internal/policies/jwtsigner.TestWhatATokenIsRememberedBy",
			"dataplane/internal/policies/hmacauth.TestNoncesSurviveAPush", "dataplane/internal/policies/basicauth.TestStateOverPushes",
			"dataplane/internal/policies/ldapauth.TestWhatIsRememberedOutlivesPushes", "dataplane/internal/policies/ldapauth.TestGuessesAreCountedOverPushes",
			"dataplane/internal/hostsvc.TestAPoolIsTheSameAcrossPushesAndClosesWhatIsIdle", "dataplane/internal/hostsvc.TestCountersSurviveAPushThatKeepsTheWindows",
			"dataplane/internal/upstream.TestConnectionsOutliveChanges", "dataplane/internal/upstream.TestHealthOutlivesChanges",
			"dataplane/internal/server.TestConnectionsSurvivePushes", "e2e/scenario.TestGuessingLeavesOthersAlone",
		},
	},
	{
		"a push that takes away a key, a pair, a password, a consumer, or who vouches for them",
		"it counts no more, remembered or not, on connections and streams that are open, too",
		[]string{
			"dataplane/internal/policies.TestARevokedKeyCountsNoMore", "dataplane/internal/policies/hmacauth.TestRevokedKeysDoNotSurviveAPush",
			"dataplane/internal/policies/basicauth.TestStateOverPushes", "dataplane/internal/policies/ldapauth.TestConsumersAreThoseOfTheRequest",
			"dataplane/internal/policies/jwtauth.TestWhatIsRememberedFollowsTheDirectory", "dataplane/internal/policies/jwtauth.TestAChangedConfigurationVerifiesAgain",
			"dataplane/internal/compile.TestStoredPairsComeAndGo", "dataplane/internal/server.TestStreamsDoNotOutliveTheirConsumer",
			"dataplane/internal/server.TestStreamsDoNotOutliveWhoVouches", "dataplane/internal/server.TestStreamsDoNotOutliveTheirBinding",
		},
	},
	{
		"clients and targets that are slow, break off or flood", "others are served; connections and memory are bounded",
		[]string{"TestSlowClientsLeaveOthersAlone", "TestFloodsOfConnectionsHitTheCap", "TestUpstreamsAndClientsThatBreakOff"},
	},
}

// TestEveryPromiseHasItsTest holds that the tests of the table exist, and that no test of this package is left out.
func TestEveryPromiseHasItsTest(t *testing.T) {
	t.Parallel()
	const here = "e2e/resilience"
	named := map[string]bool{"TestEveryPromiseHasItsTest": true}
	known := map[string]map[string]bool{here: testsIn(t, here)}
	for _, f := range faults {
		if f.promise == "" || len(f.tests) == 0 {
			t.Errorf("%s: nothing is promised, or nothing holds it", f.fault)
		}
		for _, test := range f.tests {
			folder, name, elsewhere := strings.Cut(test, ".")
			if !elsewhere {
				folder, name = here, test
				named[name] = true
			}
			if known[folder] == nil {
				known[folder] = testsIn(t, folder)
			}
			if !known[folder][name] {
				t.Errorf("%s: there is no test %s in %s", f.fault, name, folder)
			}
		}
	}
	for name := range known[here] {
		if !named[name] {
			t.Errorf("%s holds no promise of the table", name)
		}
	}
}

// testsIn reads which tests a folder of the repository has.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	dir := filepath.Join("..", "..", filepath.FromSlash(folder))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				found[f.Name.Name] = true
			}
		}
	}
	return found
}
