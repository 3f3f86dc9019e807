"""Every fault that an unattended night must survive, and the tests that make it happen. `python tests/faults/table.py`
writes `docs/faults.md` from it; `test_table.py` holds both to the tests that exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"

F = "tests/faults"
D = "tests/docker"

#: (heading, ((fault, what becomes of it, (file::test, ...)), ...))
Row = tuple[str, str, tuple[str, ...]]
FAULTS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "The daemon",
        (
            (
                "SIGKILL in each state, at each commit, at random moments",
                "the run is `interrupted`, back in the queue, no retry used; the next daemon goes on",
                (
                    f"{F}/test_daemon_killed.py::test_sigkill_in_each_state_interrupts_the_run_and_leaves_nothing",
                    f"{F}/test_daemon_killed.py::test_a_kill_at_every_commit_loses_nothing",
                    f"{F}/test_daemon_killed.py::test_a_kill_at_every_commit_of_a_campaigns_end_loses_nothing",
                    f"{F}/test_daemon_killed.py::test_twenty_kills_at_random_moments_lose_nothing",
                ),
            ),
            (
                "SIGTERM in each state",
                "as above, and the daemon ends with 0",
                (f"{F}/test_daemon_killed.py::test_sigterm_puts_the_run_under_way_back_and_leaves_nothing",),
            ),
            (
                "a daemon that hangs",
                "silent towards the service manager, which ends it and starts another; a `start` beside it exits 4",
                (
                    "tests/unit/cli/test_doctor_host.py::test_a_start_beside_a_daemon_that_hangs_exits_4",
                    f"{F}/test_under_systemd.py::"
                    "test_a_daemon_says_that_it_is_ready_alive_and_leaving_and_a_hung_one_says_nothing",
                    f"{F}/test_under_systemd.py::test_what_the_manager_does_to_a_hung_daemon_loses_nothing",
                ),
            ),
            (
                "a run that brings the daemon down",
                "ten times in a row: `Failed(infra)`, the next run has its turn",
                (f"{F}/test_daemon_killed.py::test_a_run_that_brings_the_daemon_down_does_not_hold_the_night",),
            ),
            (
                "two daemons on a state folder",
                "the second leaves with 5 and names the first",
                ("tests/daemon/test_one_owner.py::test_a_second_daemon_on_a_state_folder_leaves_at_once",),
            ),
        ),
    ),
    (
        "The runner",
        (
            (
                "SIGKILL, SIGTERM",
                "`infra` and tried again; `bad_result`",
                (
                    f"{F}/test_runner_faults.py::test_a_faulty_runner_ends_its_attempt_with_its_kind",
                    f"{F}/test_runner_faults.py::"
                    "test_a_runner_that_is_asked_to_end_from_outside_fails_its_attempt_and_the_campaign_goes_on",
                    f"{F}/test_runner_faults.py::test_a_runner_killed_between_runs_fails_no_run",
                ),
            ),
            (
                "silence, STOP",
                "`silent`; ended by the ladder",
                (
                    f"{F}/test_runner_faults.py::test_a_runner_that_keeps_its_interpreter_to_itself_is_silent",
                    f"{F}/test_runner_faults.py::test_a_stopped_runner_is_silent_and_is_ended",
                    f"{F}/test_session_watchdogs.py::test_a_stopped_runner_is_killed",
                    f"{F}/test_runner_faults.py::test_every_step_is_recorded_where_an_orderly_end_had_to_be_forced",
                ),
            ),
            (
                "silence or no progress of one replica of several",
                "`silent` or `timed_out` with its number; all are ended",
                (
                    f"{F}/test_runner_faults.py::"
                    "test_one_replica_that_is_stopped_is_silent_by_its_number_and_all_are_ended",
                    f"{F}/test_session_watchdogs.py::"
                    "test_a_replica_without_a_sign_of_life_is_told_while_the_runner_waits",
                    f"{F}/test_session_watchdogs.py::"
                    "test_a_replica_without_progress_is_timed_out_although_the_others_count",
                ),
            ),
            (
                "silence of one rank of several",
                "`silent` with its number",
                (
                    f"{F}/test_session_watchdogs.py::"
                    "test_a_rank_that_hangs_is_silent_by_its_number_long_before_the_limit_of_progress",
                    "tests/engines/test_transformers_ranks.py::"
                    "test_a_rank_that_hangs_is_told_of_and_one_that_is_killed_ends_the_runner_as_it_died",
                ),
            ),
            (
                "no progress, no end",
                "`timed_out`",
                (
                    f"{F}/test_runner_faults.py::test_no_progress_is_timed_out_although_the_runner_says_it_lives",
                    f"{F}/test_runner_faults.py::test_a_run_that_does_not_end_is_timed_out",
                    f"{F}/test_runner_faults.py::test_a_load_that_does_not_end_is_timed_out",
                ),
            ),
            (
                "garbage, truncated and doubled output",
                "`bad_result`: nothing is guessed",
                (
                    f"{F}/test_runner_faults.py::test_a_faulty_runner_ends_its_attempt_with_its_kind",
                    f"{F}/test_session_watchdogs.py::test_a_stream_that_is_not_sound_is_a_bad_result",
                    f"{F}/test_session_watchdogs.py::test_a_result_that_is_not_sound_is_a_bad_result",
                ),
            ),
            (
                "300 MB of output",
                "the run is done; head and tail are kept",
                (f"{F}/test_runner_faults.py::test_300_mb_of_output_neither_block_a_run_nor_fill_the_disk",),
            ),
            (
                "out of memory in the exec'ed process",
                "`oom_host`",
                (f"{D}/test_faults_docker.py::test_a_runner_out_of_memory_in_its_container_is_an_answer",),
            ),
            (
                "links, pipes and devices in place of its files",
                "`bad_result`; nothing outside its folder is touched",
                (
                    f"{F}/test_entrusted_files.py::test_no_link_is_followed",
                    f"{F}/test_entrusted_files.py::"
                    "test_a_lease_that_became_a_link_ends_the_attempt_and_touches_nothing",
                    f"{F}/test_session_watchdogs.py::test_a_link_in_place_of_a_runners_file_is_not_followed",
                ),
            ),
        ),
    ),
    (
        "Containers and their engine",
        (
            (
                "SIGKILL and SIGTERM of the container, restart, removal",
                "`infra`, tried again in another container",
                (
                    f"{D}/test_faults_docker.py::"
                    "test_a_killed_container_fails_the_attempt_and_the_next_one_gets_another",
                    f"{D}/test_engine_faults.py::test_a_stopped_container_fails_the_attempt",
                    f"{D}/test_faults_docker.py::test_a_container_restarted_under_the_runner_fails_the_attempt",
                    f"{D}/test_faults_docker.py::test_a_removed_container_fails_the_attempt",
                ),
            ),
            (
                "SIGKILL and SIGTERM of the engine, with and without live-restore",
                "`infra`; the campaign waits for it and goes on by itself",
                (
                    f"{D}/test_engine_faults.py::"
                    "test_an_engine_that_ends_under_a_run_fails_the_attempt_and_the_campaign_goes_on_when_it_is_back",
                    f"{D}/test_faults_docker.py::"
                    "test_a_killed_docker_engine_fails_the_attempt_and_no_runner_works_beside_the_next",
                ),
            ),
            (
                "an engine that is away, hangs, or denies its socket",
                "waited for, no retry used; said by `status`",
                (
                    f"{D}/test_engine_trouble.py::test_a_campaign_waits_for_an_engine_that_is_away_and_burns_no_retry",
                    f"{D}/test_engine_trouble.py::test_a_hung_engine_hangs_nobody_and_leaves_no_client",
                    f"{D}/test_engine_faults.py::test_a_socket_that_is_denied_is_waited_for_and_said",
                ),
            ),
            (
                "out of memory of the container",
                "`oom_host`; the next run gets another container",
                (
                    f"{D}/test_engine_faults.py::"
                    "test_a_container_out_of_memory_is_an_answer_and_the_next_run_gets_another",
                ),
            ),
            (
                "a client that hangs after the process ended",
                "costs no result; without one `silent`",
                (
                    f"{D}/test_engine_faults.py::test_a_client_that_hangs_costs_no_result_and_is_ended",
                    f"{D}/test_engine_faults.py::test_a_client_that_outlives_its_runner_ends_the_attempt_by_silence",
                ),
            ),
            (
                "an image missing, or its digest changed",
                "`infra` by its name; another engine in another container, known to each figure",
                (
                    f"{D}/test_engine_faults.py::"
                    "test_an_image_that_vanishes_in_the_night_fails_the_attempt_by_its_name",
                    f"{D}/test_engine_faults.py::"
                    "test_a_tag_that_moves_to_another_image_is_another_engine_in_another_container",
                ),
            ),
            (
                "an unhealthy container",
                "made anew",
                (f"{D}/test_engine_faults.py::test_an_ill_container_is_not_used_again",),
            ),
        ),
    ),
    (
        "Disk and database",
        (
            (
                "disk full for the database (small ext4, small tmpfs, injected ENOSPC)",
                "`interrupted`, no retry used; the ballast is given up; goes on by itself when there is room",
                (
                    f"{F}/test_disk_full.py::test_a_full_disk_of_the_database_holds_the_campaign_until_there_is_room",
                    f"{F}/test_disk_full.py::test_a_full_disk_at_the_daemons_start_is_met_with_the_ballast",
                    f"{F}/test_disk_trouble.py::test_a_daemon_outlives_a_disk_that_takes_nothing_for_a_while",
                ),
            ),
            (
                "disk full for the session folder",
                "the same",
                (f"{F}/test_disk_full.py::test_a_full_disk_of_the_sessions_costs_no_retry_and_is_waited_for",),
            ),
            (
                "ENOSPC injected into the session folder, where nobody else sees a full disk",
                "`infra` and tried again",
                (
                    f"{F}/test_disk_trouble.py::"
                    "test_a_runner_whose_events_the_disk_refuses_fails_its_attempt_and_the_run_is_tried_again",
                ),
            ),
            (
                "disk full for Docker",
                "no run starts until there is room",
                (f"{D}/test_engine_faults.py::test_a_full_disk_of_the_engine_starts_no_run_until_there_is_room",),
            ),
            (
                "ENOSPC injected into the Docker engine",
                "`infra` and tried again",
                (
                    f"{D}/test_engine_faults.py::"
                    "test_an_engine_that_the_disk_refuses_fails_the_attempt_and_the_run_is_tried_again",
                ),
            ),
            (
                "EIO on fsync",
                "the daemon ends with 4 and its reason; the next goes on",
                (
                    f"{F}/test_disk_trouble.py::test_a_disk_that_fails_stops_the_daemon_and_the_next_one_goes_on",
                    f"{F}/test_disk_trouble.py::test_a_disk_that_refuses_stops_the_writer_and_keeps_what_was_committed",
                ),
            ),
            (
                "a locked database",
                "waited for",
                (f"{F}/test_disk_trouble.py::test_a_locked_database_is_waited_for",),
            ),
            (
                "an overwritten page",
                "refused untouched, with the name of the newest backup",
                (
                    f"{F}/test_disk_trouble.py::test_a_damaged_database_is_refused_by_the_daemon_with_its_backup",
                    "tests/store/test_store_opening.py::test_an_overwritten_page_is_found_before_anything_is_decided",
                ),
            ),
            (
                "a newer schema",
                "refused untouched",
                (f"{F}/test_disk_trouble.py::test_a_newer_database_is_refused_by_the_daemon_and_left_untouched",),
            ),
        ),
    ),
    (
        "GPUs",
        (
            (
                "two campaigns on one GPU",
                "the second waits, and is told for whom",
                (
                    f"{F}/test_gpu_trouble.py::test_two_campaigns_of_two_users_never_share_a_gpu",
                    "tests/daemon/test_one_owner.py::test_two_state_folders_never_work_on_one_device_at_the_same_time",
                ),
            ),
            (
                "locks that another user of the host made",
                "shared: their folder is for all, whatever the umask of whoever was first",
                (
                    "tests/daemon/test_one_owner.py::"
                    "test_another_user_of_the_host_shares_the_locks_whoever_made_their_folder",
                ),
            ),
            (
                "a foreign process, before and during a run",
                "waited for; `contaminated`",
                (
                    f"{F}/test_gpu_trouble.py::test_a_run_waits_for_a_process_of_others_and_burns_no_retry",
                    "tests/daemon/test_a_night_with_gpus.py::test_a_foreign_process_makes_the_window_contaminated",
                ),
            ),
            (
                "memory not freed",
                "the container is made anew; then `gpu_lost`, paused until a person resumes",
                (
                    f"{F}/test_gpu_trouble.py::"
                    "test_memory_that_comes_back_with_a_new_container_costs_no_more_than_that",
                    f"{F}/test_gpu_trouble.py::test_memory_that_does_not_come_back_loses_the_gpu",
                    f"{D}/test_engine_faults.py::"
                    "test_memory_that_a_container_keeps_comes_back_with_it_and_costs_no_retry",
                    f"{F}/test_gpu_trouble.py::"
                    "test_memory_that_an_engine_leaves_behind_keeps_the_gpu_out_until_a_person_resumes",
                    "tests/daemon/test_memory_proof.py::test_memory_held_on_the_second_gpu_is_found_and_named",
                    "tests/daemon/test_several_gpus.py::"
                    "test_memory_that_stays_on_the_second_gpu_starts_no_other_engine",
                ),
            ),
            (
                "a GPU that does not tell its memory",
                "as one whose memory is not freed; one that has no such counter is left out, and the log says so",
                (
                    "tests/daemon/test_memory_proof.py::test_a_second_gpu_that_tells_nothing_is_no_free_one",
                    "tests/daemon/test_memory_proof.py::"
                    "test_a_gpu_that_counts_no_memory_is_left_out_and_the_log_says_so_once",
                ),
            ),
            (
                "memory that leaked under a killed daemon",
                "the floor is kept for the boot and the driver: as above",
                (
                    f"{F}/test_gpu_trouble.py::"
                    "test_memory_that_leaked_under_a_daemon_that_was_killed_is_no_floor_of_the_next",
                ),
            ),
            (
                "memory that a process of others holds",
                "`contaminated`: the GPU is not lost",
                (f"{F}/test_gpu_trouble.py::test_memory_that_others_hold_is_no_lost_gpu",),
            ),
            (
                "a GPU lost, or a driver that hangs",
                "`gpu_lost`; kept out, told and paused until a person resumes",
                (
                    "tests/daemon/test_a_night_with_gpus.py::"
                    "test_a_gpu_that_fails_in_mid_window_is_kept_out_until_a_person_resumes",
                    "tests/daemon/test_lost_gpus.py::"
                    "test_no_death_of_the_daemon_parts_a_loss_from_its_pause_and_its_message",
                ),
            ),
            (
                "a GPU lost in a campaign's last run, or at its closing baseline",
                "kept out and told; `resume` of any campaign, also a finished one, lets it in",
                (
                    "tests/daemon/test_lost_gpus.py::"
                    "test_a_gpu_lost_in_the_last_run_is_told_and_a_finished_campaigns_resume_lets_it_in",
                    "tests/daemon/test_lost_gpus.py::"
                    "test_a_campaign_that_waits_for_a_kept_out_gpu_begins_at_once_when_it_is_resumed",
                    "tests/daemon/test_a_night_with_gpus.py::"
                    "test_a_gpu_lost_at_the_closing_baseline_is_kept_out_and_told",
                ),
            ),
            (
                "a GPU lost between runs",
                "as in a run: kept out, told once, paused until a person resumes",
                (
                    f"{F}/test_gpu_trouble.py::"
                    "test_between_runs_a_dead_sampler_gets_a_successor_and_a_lost_gpu_is_kept_out",
                    "tests/daemon/test_lost_gpus.py::test_a_gpu_lost_between_runs_is_kept_out_and_told_once",
                ),
            ),
            (
                "a GPU lost that a run does not use",
                "the run goes on; the energy of idle GPUs is absent, with the reason",
                (
                    "tests/unit/measure/test_sampler.py::"
                    "test_a_watched_gpu_that_is_lost_costs_the_run_nothing_but_its_own_line",
                ),
            ),
            (
                "a sampler that ends between runs",
                "another one after 5 s, then ever more rarely, up to once a minute",
                (
                    f"{F}/test_gpu_trouble.py::"
                    "test_between_runs_a_dead_sampler_gets_a_successor_and_a_lost_gpu_is_kept_out",
                    "tests/daemon/test_lost_gpus.py::"
                    "test_meters_that_end_between_runs_are_tried_again_ever_more_rarely",
                ),
            ),
            (
                "Xid errors in the kernel's log",
                "told with the failure; after some of them `gpu_lost`",
                ("tests/unit/measure/test_xid.py::test_a_failure_is_told_with_its_xid_and_a_fatal_one_loses_the_gpu",),
            ),
            (
                "a container that lost NVML",
                "made anew before the next session",
                (f"{D}/test_engine_faults.py::test_a_container_that_lost_nvml_is_made_anew",),
            ),
        ),
    ),
    (
        "Clock and host",
        (
            (
                "the clock stepped an hour each way",
                "`invalid` and tried again; no retry hurried or held back",
                (
                    f"{F}/test_clock_trouble.py::"
                    "test_a_clock_set_by_an_hour_under_a_run_makes_it_invalid_and_it_is_tried_again",
                    f"{F}/test_clock_trouble.py::test_a_clock_set_by_an_hour_neither_hurries_nor_holds_back_a_retry",
                ),
            ),
            (
                "daylight saving both ways",
                "no run twice, none skipped",
                (
                    f"{F}/test_clock_trouble.py::test_daylight_saving_neither_runs_a_run_twice_nor_skips_one",
                    f"{F}/test_clock_trouble.py::test_a_schedule_in_the_hour_that_changes_fires_once",
                    "tests/daemon/test_alarm.py::"
                    "test_across_a_change_of_clocks_no_due_time_is_skipped_and_none_begins_two",
                ),
            ),
            (
                "suspend",
                "`invalid` and tried again",
                (
                    f"{F}/test_clock_trouble.py::"
                    "test_a_host_that_slept_under_a_run_makes_it_invalid_and_it_is_tried_again",
                ),
            ),
            (
                "reboot",
                "`interrupted`, no retry used",
                (f"{F}/test_clock_trouble.py::test_a_reboot_interrupts_the_run_costs_no_retry_and_holds_none_back",),
            ),
            (
                "memory pressure",
                "no run starts until there is memory; an engine is killed before the daemon",
                (
                    f"{F}/test_host_memory.py::"
                    "test_a_host_short_of_memory_starts_no_run_until_there_is_some_and_fails_none",
                    f"{F}/test_host_memory.py::test_where_memory_runs_out_an_engine_goes_before_the_daemon",
                ),
            ),
        ),
    ),
    (
        "The world outside",
        (
            (
                "hub unreachable, slow, refusing",
                "one line each; what was fetched is kept; nothing half is used",
                (
                    "tests/engines/test_hub_trouble.py::test_a_hub_in_trouble_is_one_line_soon_and_leaves_no_model",
                    "tests/unit/runner/test_hub.py::test_each_refusal_of_the_hub_is_one_line_that_says_what_to_do",
                    "tests/unit/runner/test_hub.py::test_a_broken_fetch_leaves_no_model_and_goes_on_where_it_stopped",
                ),
            ),
            (
                "a prefetch that stalls or never ends",
                "ended in one line, its container too; what was fetched is kept",
                (
                    "tests/unit/test_fetching.py::test_a_prefetch_without_progress_is_ended_in_one_line",
                    "tests/unit/test_fetching.py::test_a_prefetch_that_goes_on_for_ever_is_ended_at_its_limit",
                    f"{D}/test_prefetch_that_hangs.py::"
                    "test_a_prefetch_that_stalls_in_its_container_leaves_no_container",
                ),
            ),
            (
                "an address of notifications that refuses or hangs",
                "tried again ever more rarely; no run waits",
                (
                    "tests/daemon/test_notifications.py::"
                    "test_an_address_that_hangs_holds_up_no_run_and_no_end_of_the_daemon",
                    "tests/daemon/test_notifications.py::"
                    "test_what_fails_is_tried_again_ever_more_rarely_and_given_up_in_the_end",
                ),
            ),
            (
                "port and socket taken",
                "a lane listens nowhere; metrics, where they were asked for, are not told, and the log says so",
                (
                    f"{F}/test_gpu_trouble.py::test_a_lane_listens_nowhere_so_that_no_port_or_socket_can_be_taken",
                    "tests/daemon/test_exposition.py::test_a_port_that_is_taken_keeps_no_night_from_being_measured",
                ),
            ),
            (
                "a secret that leaks (canary)",
                "is in no file, no process, no container but its own place",
                (
                    f"{F}/test_canary.py::test_no_secret_is_in_the_state_folder_nor_with_any_process",
                    f"{F}/test_canary.py::test_the_token_that_fetches_stays_with_the_process_that_fetches",
                    f"{D}/test_hub_prefetch_docker.py::test_a_hub_data_set_is_fetched_in_a_container",
                    f"{D}/test_engine_faults.py::test_no_secret_reaches_a_container_or_a_command_line",
                ),
            ),
        ),
    ),
    (
        "All of it together",
        (
            (
                "random sequences of the above",
                "the invariants hold",
                (f"{F}/test_model_of_nights.py::test_whatever_happens_the_state_stays_sound_and_everything_ends",),
            ),
        ),
    ),
)


def tests() -> Iterator[str]:
    """Every test that the table names."""
    for _, rows in FAULTS:
        for _, _, names in rows:
            yield from names


def page() -> str:
    """`docs/faults.md`."""
    lines = [
        "<!-- Generated by `python tests/faults/table.py`; do not edit. -->",
        "# Faults, and the tests that make them happen",
        "",
        "What follows from each kind of failure is in `docs/decisions/0002-what-a-run-may-become.md`. After every test",
        "an audit holds: the log of transitions replays to the stored states, every attempt has ended, no two shared a",
        "lane, done runs have their results, no process, container, lock or open session is left.",
    ]
    for heading, rows in FAULTS:
        lines += ["", f"## {heading}", "", "| fault | what becomes of it | test |", "|---|---|---|"]
        for fault, fate, names in rows:
            shown = "<br>".join(f"`{name.removeprefix('tests/')}`" for name in names)
            lines.append(f"| {fault} | {fate} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
