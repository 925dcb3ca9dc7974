"""The measured rows as a Markdown table."""

from collections.abc import Sequence
from typing import Any


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """What is the same for all rows first, then a line a row. Seconds are those of a step, TRL's before ours."""
    machine, versions, options = (rows[0][key] for key in ("machine", "versions", "options"))
    adapter = "adapter_ratio" in rows[0]
    variants = [name.replace("_", " ") for name, chosen in options.items() if chosen]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} thread(s), {machine['capability']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + (f"; with {' and '.join(variants)}" if variants else ""),
        "",
    ]
    heads = ["P (visual)", "C", "G", "generation", "training", "optimizer", "step TRL / ours", "ratio"]
    heads += ["by processor time", "predicted", "of the bound", "peak memory TRL / ours", "above imports"]
    if adapter:
        heads.append("adapter")
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        shape, seconds, phases = row["shape"], row["seconds"], row["phase_ratios"]
        memory = {side: row["peak_bytes"][side] for side in ("peer", "ours")}
        low, high = row["ratio_range"]
        cells = [
            f"{shape['P']} ({shape['visual']})",
            str(shape["C"]),
            str(shape["G"]),
            *(f"{phases[phase]:.1f}x" for phase in ("generation", "training", "optimizer")),
            f"{seconds['peer']['step']:.2f} / {seconds['ours']['step']:.2f} s",
            f"**{row['ratio']:.1f}x** ({low:.1f}-{high:.1f})",
            f"{row['cpu_ratio']:.1f}x",
            f"{row['predicted_ratio']:.1f}x",
            f"{row['bound_share']:.0%}",
            *(
                f"{memory['peer'][kind] / 1e9:.2f} / {memory['ours'][kind] / 1e9:.2f} GB"
                for kind in ("peak", "above_imports")
            ),
        ]
        if adapter:
            cells.append(f"{row['adapter_ratio']:.1f}x")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
