"""Run the timing of the CNI plugins."""

import sys

from bench.cni.timing import main

sys.exit(main())
