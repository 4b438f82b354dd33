"""`python -m cni.portmap`."""

from cni.lib.skel import main
from cni.portmap import PLUGIN

main(PLUGIN)
