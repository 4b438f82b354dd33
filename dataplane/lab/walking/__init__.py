"""How a walk is recorded: a packet is sent, copies of it are taken at every device, and its way is put together.

1. `survey` lists the devices of all namespaces and how they are joined.
2. `probes` send one packet, whose content tells it from all others wherever it shows up.
3. `sightings` picks the copies of it, of its answer and of errors about it from all that the sniffers got.
4. `way` puts the sightings of one packet in order, by how the devices are joined.
5. `story` makes steps of them, and of the places between two devices: `route`, `netfilter`, `engine`, `sockets` and
   `bridge` say what was decided there. `ends` says why a packet that did not arrive ended where it did.
6. `recorder` does all that.
"""
