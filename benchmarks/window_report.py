"""What `window.py` measured, as a table and a plot."""

from typing import Any

import common


def of_the_best(result: dict[str, Any]) -> float:
    """The window's rows/s in percent of the best of the others."""
    rates = result["rates"]
    return 100 * rates["window"] / max(rate for kind, rate in rates.items() if not kind.startswith("window"))


def report(results: list[dict[str, Any]], labels: list[str], name: str, title: str) -> None:
    """A table, and a plot with a group of bars for each result and a dot for each run; `labels` name the kinds in
    their order."""
    lines: list[list[object]] = [
        [
            *(r["title"], r["tokens"], r["rows"], *r["rates"].values(), r["found"]),
            *(of_the_best(r), " ".join(f"{share:.2f}" for share in r["fairness"]) or "-", r["errors"]),
        ]
        for r in results
    ]
    print(common.table(["engine", "tokens", "rows", *labels, "found", "% of best", "slowest/fastest", "errors"], lines))
    print(f"rows/s, medians; {common.machine()}")

    def best(r: dict[str, Any]) -> float:
        return max(r["rates"].values())

    def draw(axes: Any) -> None:
        width = 0.8 / len(labels)
        for number, label in enumerate(labels):
            heights = [list(r["rates"].values())[number] / best(r) for r in results]
            grey = str(0.8 - 0.6 * number / len(labels))
            color = {"window": "tab:green"}.get(label, "tab:olive" if label.startswith("window") else grey)
            places = [i + number * width for i in range(len(results))]
            axes.bar(places, heights, width, label=label, color=color)
            for place, r in zip(places, results, strict=True):
                runs = r["all"].get(list(r["rates"])[number], [])
                axes.plot([place] * len(runs), [run / best(r) for run in runs], "k.", markersize=3)
        names = [f"{r['title']}\n{r['tokens']} tokens" for r in results]
        axes.set_xticks([i + 0.4 for i in range(len(results))], names, fontsize=7)
        axes.set_ylabel("rows/s, share of the best")
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    common.plot(name, draw, title)
