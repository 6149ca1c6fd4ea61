"""The contract fails where it should: it is run on stores broken on purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Catches = dict[str, set[str]]
"""By broken store: the tests that have to notice, among others."""

IN_MEMORY: Catches = {
    "Good": set(),
    "IgnoresClaims": {
        "test_a_running_session_holds_its_claim",
        "test_a_completed_session_holds_its_claim",
        "test_a_refused_append_writes_nothing",
        "test_of_threads_that_race_for_a_claim_one_wins",
    },
    "AsksForTheClaimTooEarly": {"test_of_threads_that_race_for_a_claim_one_wins"},
    "AsksForTheClaimTooLate": {"test_a_refused_append_writes_nothing"},
    "EveryEndGivesTheClaimUp": {
        "test_a_completed_session_holds_its_claim",
        "test_an_end_of_another_writer_gives_nothing_up",
        "test_each_writer_of_a_session_holds_its_claim",
        "test_a_session_whose_last_writer_completed_holds_its_claim",
        "test_a_late_end_releases_nothing",
        "test_a_session_that_starts_again_after_it_failed_holds_its_claim_again",
    },
    "KeepsTheFormerClaim": {
        "test_a_start_that_changes_the_claim_gives_the_former_one_up",
        "test_a_session_is_continued_by_another_handle",
    },
    "WritesBatchesInParts": {
        "test_a_batch_is_seen_whole_or_not_at_all",
        "test_a_batch_with_a_record_that_cannot_be_stored_is_not_appended",
    },
    "NumbersLate": {"test_followers_miss_nothing_while_others_append"},
    "UsesNumbersAgain": {
        "test_numbers_of_what_was_pruned_are_not_used_again",
        "test_when_everything_is_pruned_numbers_still_grow",
    },
    "NumbersAnew": {"test_pruning_drops_what_the_tombstone_covers_and_nothing_else"},
    "PrunesTheFuture": {"test_a_tombstone_does_not_cover_what_comes_after_it"},
    "KeepsTombstonesOfNothing": {
        "test_pruning_by_a_tombstone_that_names_nothing_changes_nothing_readers_see",
        "test_an_empty_store_can_be_tidied_up",
    },
    "PrunesMoreThanIsNamed": {"test_pruning_drops_what_the_tombstone_covers_and_nothing_else"},
    "KeepsTheCallersDict": {
        "test_a_change_after_the_append_changes_nothing_stored",
        "test_a_change_of_what_came_out_changes_nothing_stored",
    },
    "KeepsNumbersAsFloats": {"test_what_goes_in_comes_out_equal"},
    "ReadsFromAfterOn": {
        "test_after_a_number_come_the_larger_ones",
        "test_reading_on_after_the_last_number_misses_and_repeats_nothing",
    },
    "LooksAtOneFilter": {"test_filters_select_what_fits_every_one_of_them"},
    "ForgetsWhatIsNewer": {"test_a_record_of_a_newer_version_comes_out_as_it_went_in"},
    "ReadsWhatMoves": {"test_a_reader_in_the_middle_goes_on_while_others_append_and_prune"},
    "ReadersHoldUpWriters": {"test_a_reader_that_stops_in_the_middle_leaves_the_store_usable"},
    "StaysClosed": {"test_a_closed_handle_opens_again_when_it_is_used"},
}
IN_FILES: Catches = {
    "LosesWhatOthersAppend": {
        "test_another_handle_sees_all",
        "test_handles_that_were_open_go_on_through_a_prune",
        "test_of_processes_that_race_for_a_claim_one_wins",
        "test_processes_append_and_prune_at_once_and_nothing_is_lost",
    },
    "KeepsRecordsInTheProcess": {
        "test_another_handle_sees_all",
        "test_what_append_returned_for_outlives_a_kill",
    },
    "LocksNoOtherProcessOut": {"test_of_processes_that_race_for_a_claim_one_wins"},
    "GoesOnAfterAForkAsItsParent": {"test_a_forked_child_appends_through_the_handle_it_inherits"},
}
FILES: Catches = {
    "GoodFiles": set(),
    "AppearsUnfinished": {"test_an_interrupted_upload_goes_on_where_it_was"},
    "SendsEverythingAgain": {"test_an_interrupted_upload_goes_on_where_it_was"},
    "FillsGaps": {"test_an_upload_whose_parts_were_removed_does_not_appear_with_gaps"},
    "DeletesWhatWasRenewed": {"test_a_file_that_was_renewed_since_it_was_listed_is_not_deleted"},
    "ReadsFromTheStart": {"test_a_file_is_read_from_a_position_on"},
    "RenewsNoTimes": {"test_renewing_changes_the_time"},
}
WORKS = {
    "test_append_returns_growing_numbers",
    "test_a_deleted_file_is_gone_and_can_be_stored_again",
}
"""Tests that a broken store passes: it fails for its fault, and not because nothing works."""


class Verdict(NamedTuple):
    passed: set[str]
    failed: set[str]


def verdicts_on(stores: Catches, folder: Path) -> dict[str, Verdict]:
    """Run the contract on each store, in another process; return its tests by outcome."""
    report = folder / "report.xml"
    tests = [f"{HERE / 'broken_stores.py'}::Test{store}" for store in stores]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [
        "--timeout=60",
        "--tb=no",
        "--assert=plain",
        f"--junitxml={report}",
        f"--basetemp={folder / 'temp'}",
        *tests,
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert report.exists(), ran.stdout + ran.stderr
    verdicts = {store: Verdict(set(), set()) for store in stores}
    for case in ElementTree.parse(report).iter("testcase"):
        verdict = verdicts[case.attrib["classname"].rpartition(".Test")[2]]
        is_bad = case.find("failure") is not None or case.find("error") is not None
        (verdict.failed if is_bad else verdict.passed).add(case.attrib["name"].partition("[")[0])
    return verdicts


@pytest.mark.parametrize(
    "stores", [IN_MEMORY, IN_FILES, FILES], ids=["in memory", "in files", "files"]
)
def test_the_contract_fails_on_broken_stores_where_they_are_broken(
    stores: Catches, tmp_path: Path
) -> None:
    verdicts = verdicts_on(stores, tmp_path)
    unnoticed = {store: must_fail - verdicts[store].failed for store, must_fail in stores.items()}
    assert unnoticed == {store: set() for store in stores}
    for store, verdict in verdicts.items():
        assert WORKS & verdict.passed, store
        assert len(verdict.passed) > len(verdict.failed), store
    for good in {"Good", "GoodFiles"} & verdicts.keys():
        assert verdicts[good].failed == set()
