"""What the worker does on the machine that has the printer."""

from pathlib import Path


def print_takings(takings):
    day = takings[0]["day"]
    lines = [f"{each['shop']} {each['euros']:.2f} euros" for each in takings]
    page = Path(f"printed-{day}.txt")
    page.write_text("\n".join([day, *lines, ""]), encoding="utf-8")
    return page.name
