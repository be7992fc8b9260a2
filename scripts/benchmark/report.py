"""Results as Markdown: medians over the rounds, and ratios ours ÷ peer, each the median of the ratios inside the rounds."""

import statistics

MEASURES = ("wall_s", "cpu_s", "peak_mib", "stored_mib")
OURS = "blobkeep"


def facts(machine):
    """The lines above all tables."""
    versions = "; ".join(f"{name}: {text}" for name, text in machine["versions"].items())
    return (f"{machine['date']}. {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
            f"{machine['file_system']}, Python {machine['python']}.\n\n{versions}.\n")


def table(case, text, rows):
    """One case as a table."""
    rounds = len({row["round"] for row in rows})
    is_compared = len({row["tool"] for row in rows}) > 1
    columns = ["step", "tool", "wall s", "CPU s", "peak MiB", "stored MiB", "server CPU s", "load before"]
    if is_compared:
        columns += ["ours ÷ it: wall", "CPU", "peak", "stored"]
    columns.append("notes")
    lines = [f"### {case}: {text}", "", f"{rounds} round{'' if rounds == 1 else 's'}; medians.", "", _line(columns), "|---" * len(columns) + "|"]
    for step in dict.fromkeys(row["step"] for row in rows):
        of_step = [row for row in rows if row["step"] == step]
        for tool in sorted({row["tool"] for row in of_step}, key=lambda name: (name != OURS, name)):
            lines.append(_line(_cells(step, tool, of_step, is_compared)))
    return "\n".join(lines) + "\n"


def _cells(step, tool, of_step, is_compared):
    mine = [row for row in of_step if row["tool"] == tool]
    ours = {row["round"]: row for row in of_step if row["tool"] == OURS}
    middle = {name: statistics.median(row[name] for row in mine) for name in (*MEASURES, "server_cpu_s")}
    cells = [step, tool, f"{middle['wall_s']:.2f}", f"{middle['cpu_s']:.2f}", f"{middle['peak_mib']:.0f}", f"{middle['stored_mib']:.2f}",
             f"{middle['server_cpu_s']:.2f}", ", ".join(f"{row['load_before']:.1f}" for row in mine)]
    if is_compared:
        cells += [_ratio(name, mine, ours) if tool != OURS else "" for name in MEASURES]
    return [*cells, "; ".join(_notes(mine))]


def _ratio(name, mine, ours):
    ratios = [ours[row["round"]][name] / row[name] for row in mine if row["round"] in ours and row[name] > 0]
    # Next to nothing beside next to nothing says nothing.
    is_tiny = name == "stored_mib" and max((row[name] for row in mine), default=0) < 0.1
    return f"{statistics.median(ratios):.2f}" if ratios and not is_tiny else "–"


def _notes(rows):
    notes = []
    disturbed = sum(row["is_disturbed"] for row in rows)
    if disturbed:
        others = max(row["others_cpu_s"] for row in rows)
        notes.append(f"disturbed in {disturbed} of {len(rows)} (up to {others:.1f} s of CPU by others)")
    equal = [row["is_equal"] for row in rows if "is_equal" in row]
    if equal:
        notes.append("compared: equal" if all(equal) else "compared: DIFFERENT")
    for name in dict.fromkeys(name for row in rows for name in row.get("figures", {})):
        middle = statistics.median(row["figures"][name] for row in rows if name in row.get("figures", {}))
        notes.append(f"{name}: {middle:,.2f}")
    return notes


def _line(cells):
    return "| " + " | ".join(cells) + " |"
