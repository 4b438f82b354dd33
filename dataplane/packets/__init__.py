"""What a packet is and what may become of it, without input or output.

Bottom up: `verdicts` names every way that a packet can go and `counters` counts them, `batch` holds many packets in one
arena, `packet` reads headers, `fragment` cuts, `icmp` answers, `routes` is the table that says whose an address is.
"""
