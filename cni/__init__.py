"""CNI plugins that wire pods, drop-in replacements for the official ones.

One file is one plugin: `cni.bridge`, `cni.host_local`, `cni.flannel` ... each ends in a `Plugin` table of its
verbs. What they share is in `cni.lib`; `cni.install` puts them into a bin directory under their official names.

A container runtime runs a plugin as a process for every verb of every pod, so the start of the interpreter and
the imports are most of what a call costs. Therefore this package uses the standard library alone, prefers its
cheap modules, and imports nothing at the top of a file that only a rare path needs.
"""
