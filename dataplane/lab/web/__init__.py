"""The page of a lab: one page for a standing lab, for a recording from disk, and for a machine without Linux.

`assets` finds what the page is made of, `single` puts it all into one HTML file, `engine` packs the textbook engine for
Python in the browser. `server` answers on 127.0.0.1 for a standing lab, with `guard` before everything: `live` counts,
`captures` takes packets from a wire, `terminals` opens shells, `exercises` asks the command line.
"""
