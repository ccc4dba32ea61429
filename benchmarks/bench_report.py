"""A run of the benchmark as Markdown."""

from __future__ import annotations

from bench_run import LM_EVAL, OPTIONS, PREFILL, THIS, Measured, Run


def report(run: Run) -> str:
    """The table, what it was measured on, and each aim with what was reached."""
    mean, most, longest = run.lengths
    rows = run.lines[0].rows
    memory = [f"Peak memory of `{THIS}`: {run.peak_memory:.1f} GiB."] if run.peak_memory else []
    clock = "wall clock" if run.peak_memory else "CPU time of the thread"
    return "\n".join(
        [
            "# Answer distributions: ways and times",
            "",
            f"Machine: {run.machine}.",
            f"Model: random Qwen2, shape `{run.shape}`, {run.dtype}. Rows: {rows}, {run.data}; prompts of {mean:.0f} "
            f"tokens on average (95%: {most:.0f}, longest {longest}), {run.shared} of them ({run.shared / mean:.0%}) "
            f"the same in all; {run.nodes:.1f} trie nodes a row. At most {run.budget} tokens in one forward.",
            f"Measured matmul peak ({run.dtype}): {run.peak / 1e9:.1f} GFLOP/s. Seconds: {clock}.",
            *memory,
            "",
            "| way | rows | seconds | ms a row | times `this` | padding | share of peak | largest difference |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *(_row(line, run.peak) for line in run.lines),
            "",
            "Padding: of the tokens that went through the layers. Share of peak: operations that the way cannot do "
            "without (no padding, no masked attention, no discarded logits), in that time. Largest difference: of the "
            f"log-probability of any answer to any row, from `{THIS}`; the ways without one compute something else: "
            "`generate` draws one answer a row, `prefill alone` gives none.",
            "",
            *_aims(run),
        ]
    )


def _row(line: Measured, peak: float) -> str:
    outcome = line.outcome
    padding = f"{1 - outcome.tokens / outcome.padded:.1%}" if outcome.padded else ""
    share = f"{outcome.work / line.seconds / peak:.0%}" if outcome.work else ""
    difference = f"{line.difference:.0e}" if line.difference is not None and line.name != THIS else ""
    return (
        f"| {line.name} | {line.rows} | {line.seconds:.2f} | {1000 * line.seconds / line.rows:.1f} | "
        f"{line.seconds / line.this_seconds:.2f} | {padding} | {share} | {difference} |"
    )


def _aims(run: Run) -> list[str]:
    by_name = {line.name: line for line in run.lines}
    mine = by_name[THIS]
    times = {name: line.seconds / line.this_seconds for name, line in by_name.items()}
    padding = 1 - mine.outcome.tokens / mine.outcome.padded
    share = mine.outcome.work / mine.seconds / run.peak
    against_prefill = 1 / times[PREFILL]
    aims = [
        ("at least 12 times as fast as option by option", f"{times[OPTIONS]:.1f}", times[OPTIONS] >= 12),
        (f"at least 12 times as fast as {LM_EVAL}", f"{times[LM_EVAL]:.1f}", times[LM_EVAL] >= 12),
        ("within 1.25 times the prefill alone", f"{against_prefill:.2f}", against_prefill <= 1.25),
        ("at least 70% of the measured matmul peak", f"{share:.0%}", share >= 0.7),
        ("padding under 1.5%", f"{padding:.2%}", padding < 0.015),
        ("the ways that compute the same agree", "yes" if run.agree else "no", run.agree),
    ]
    return [f"- {aim}: {found} ({'met' if met else 'not met'})" for aim, found, met in aims]
