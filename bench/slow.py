"""Measures a slow upstream: many answers in flight, in one and several processes; memory."""

from contextlib import ExitStack
from statistics import median

from bench import machine
from bench.fast import cpu, rate
from bench.report import Report
from bench.rounds import interleaved, middle, ratios, run_round, warm_up
from bench.stage import Stage
from bench.variants import FLOOR, NAIVE, OURS

LATENCY_S = 2.0
ANSWERS = 500
MANY, FEW = 1000, 50
FEW_ROUNDS = 6
"""Rounds with 50 in flight beside each one with 1000."""


def measure(stage: Stage, report: Report, *, rounds: int, messages: int, two_floors: bool) -> None:
    """Latency 2 s, 500 in flight: floor, ours, and two processes of ours.

    `two_floors`: two processes of the floor as well, which show the limit of these cores.
    """
    with ExitStack() as stack:
        floor = stack.enter_context(stage.subject(FLOOR, answers=ANSWERS))
        one = stack.enter_context(stage.subject(OURS, answers=ANSWERS))
        two = stack.enter_context(stage.subject(OURS, answers=ANSWERS, processes=2, label="two"))
        subjects = [floor, one, two]
        if two_floors:
            several = stage.subject(FLOOR, answers=ANSWERS, processes=2, label="two floors")
            subjects.append(stack.enter_context(several))
        for subject in subjects:
            warm_up(stage, subject)
        stage.upstream.control(latency_s=LATENCY_S)
        done = interleaved(stage, subjects, rounds=rounds, messages=messages)
        stage.upstream.control(latency_s=0.0)
    rates = ", ".join(f"{name} {middle(found, rate):.0f}/s" for name, found in done.items())
    report.add("slow_floor", ratios(done["ours"], done["floor"], rate), rates)
    cores = report.about.get("cores")
    report.add(
        "two_one", ratios(done["two"], done["ours"], rate), f"{rates}; {cores} cores for all"
    )
    if two_floors:
        scaled = ratios(done["two floors"], done["floor"], rate)
        report.facts["two processes of the floor: x one"] = round(median(scaled), 2)


def many(stage: Stage, report: Report, *, rounds: int, messages: int) -> None:
    """Latency 2 s, 1000 in flight in one process: beside what they could be without any work."""
    with stage.subject(OURS, answers=MANY) as subject:
        warm_up(stage, subject)
        stage.upstream.control(latency_s=LATENCY_S)
        done = [run_round(stage, subject, messages=messages) for _ in range(rounds)]
        stage.upstream.control(latency_s=0.0)
        report.add("rss_1000_slow", [machine.rss_mb(subject.processes[0].pid)])
    ideal = MANY / LATENCY_S
    note = f"{middle(done, rate):.0f}/s, worker {middle(done, cpu):.2f} ms"
    report.add("ideal_1000", [one.per_second / ideal for one in done], note)


def sizes(stage: Stage, report: Report, *, rounds: int, messages: int) -> None:
    """Latency 2 s with 50, 200 and 500 in flight; 1, 2 and 4 processes at latency 0."""
    found: dict[str, object] = {}
    for answers in (50, 200, 500):
        with stage.subject(OURS, answers=answers) as subject:
            warm_up(stage, subject)
            stage.upstream.control(latency_s=LATENCY_S)
            done = interleaved(stage, [subject], rounds=rounds, messages=10 * answers)
            stage.upstream.control(latency_s=0.0)
        both = done["ours"]
        found[f"{answers} in flight"] = [round(middle(both, rate)), round(middle(both, cpu), 2)]
    for processes in (1, 2, 4):
        with stage.subject(OURS, answers=200, processes=processes) as subject:
            warm_up(stage, subject)
            done = interleaved(stage, [subject], rounds=rounds, messages=messages)
        both = done["ours"]
        found[f"{processes} processes"] = [round(middle(both, rate)), round(middle(both, cpu), 2)]
    report.facts["sizes: messages per second, worker ms per message"] = found


def memory(stage: Stage, report: Report, *, rounds: int) -> None:
    """Hold answers back until a number is in flight; then read the memory of the processes."""
    with ExitStack() as stack:
        naive = stack.enter_context(stage.subject(NAIVE, answers=8))
        many = stack.enter_context(stage.subject(OURS, answers=MANY, label="many"))
        few = stack.enter_context(stage.subject(OURS, answers=FEW, label="few"))
        for subject in (naive, many, few):
            warm_up(stage, subject)
        sizes_mb: list[tuple[float, float]] = []
        pid, naive_pid = many.processes[0].pid, naive.processes[0].pid

        def weigh() -> None:
            sizes_mb.append((machine.rss_mb(pid), machine.pss_mb(pid)))

        many_rounds, few_rounds = [], []
        for _ in range(rounds):
            many_rounds.append(run_round(stage, many, messages=MANY, hold=True, at_peak=weigh))
            few_rounds += [
                run_round(stage, few, messages=FEW, hold=True) for _ in range(FEW_ROUNDS)
            ]
        naive_mb = machine.pss_mb(naive_pid)
    few_cpu = middle(few_rounds, cpu)
    report.add(
        "cpu_1000_50",
        [one.cpu_ms / few_cpu for one in many_rounds],
        f"1000 in flight {middle(many_rounds, cpu):.2f} ms, 50 {few_cpu:.2f} ms",
    )
    pss_mb = median(pss for _, pss in sizes_mb)
    report.add("rss_1000", [rss for rss, _ in sizes_mb], f"resident; proportional {pss_mb:.0f} MB")
    report.add(
        "per_gb_naive",
        [(MANY / pss) / (naive.answers / naive_mb) for _, pss in sizes_mb],
        f"ours {MANY / pss_mb * 1000:.0f} per GB, naive {naive.answers / naive_mb * 1000:.0f}"
        f" ({naive.answers} in {naive_mb:.0f} MB, shared pages counted once)",
    )
