/* api.h - what Python may call: api.cdef.h with what a C compiler needs around it. */
#ifndef DP_API_H
#define DP_API_H

#include <stddef.h>
#include <stdint.h>

#include "verdicts.h"

#include "api.cdef.h"

#endif
