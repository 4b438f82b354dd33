"""`python -m cni.dhcp`, and `python -m cni.dhcp daemon`."""

from cni.dhcp import main

main()
