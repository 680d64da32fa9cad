"""Bars by group, as SVG: no more than a document shows."""

from html import escape

COLOURS = ("#9aa5b1", "#3e7cb1", "#81a4cd", "#d1495b", "#edae49", "#66a182")
WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 860, 14, 16, 190, 70, 56


def bars(title, groups, names, shown):
    """`groups`: (label, {name: value}); each group's bars are to scale with its own highest. `shown(value)` is written at the bar's end."""
    height = TOP + sum(GAP + BAR * len(values) for _, values in groups) + GAP
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>', f'<text x="10" y="20" font-size="14">{escape(title)}</text>']
    at = 10
    for name, colour in zip(names, COLOURS):
        out += [f'<rect x="{at}" y="30" width="10" height="10" fill="{colour}"/>', f'<text x="{at + 14}" y="39">{escape(name)}</text>']
        at += 30 + 7 * len(name)
    y = TOP
    for label, values in groups:
        y += GAP
        most = max(values.values()) or 1
        middle = y + BAR * len(values) / 2 + 4
        out.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>')
        for name, value in values.items():
            length = (WIDTH - LEFT - RIGHT) * value / most
            out += [f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLOURS[names.index(name)]}"/>',
                    f'<text x="{LEFT + length + 4:.1f}" y="{y + BAR - 4}">{escape(shown(value))}</text>']
            y += BAR
    return "\n".join([*out, "</svg>", ""])
