"""Exercises that check themselves.

An exercise is a directory of `dataplane.lab.exercises`, or of anybody's: `lab.toml` says what lab it needs, how it
begins, and of each step what solves it, what shows that it is solved, and what helps; `text.md` is for students,
`teacher.md` is not. docs/labs/writing.md is for those who write one.

1. `exercise` reads the directory and refuses what is wrong in it, with file and line.
2. `classroom` makes the lab and brings it to a known state: the start, or what stands after a step.
3. `checks` runs the checks of a step, each a kind of `kinds`, and says expected, got, and where to look.
4. `progress` remembers, outside of the lab, what was checked, answered, and which hints were opened.
"""
