/* bytes.h - numbers in network byte order at any address, and sizes. */
#ifndef DP_BYTES_H
#define DP_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t get_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t get_be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void put_be16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put_be32(uint8_t *at, uint32_t value)
{
    put_be16(at, (uint16_t)(value >> 16));
    put_be16(at + 2, (uint16_t)value);
}

/* The least multiple of @step that is no less than @size. */
#define ROUND_UP(size, step) (((size) + (step) - 1) / (step) * (step))

/*
 * What is left of @whole behind its first @part bytes; nothing, and not a number that wraps, when it ends before. Any
 * difference of lengths that no check right above it has tied together goes through here.
 */
static inline size_t size_left(size_t whole, size_t part)
{
    return part < whole ? whole - part : 0;
}

/* The smaller of two sizes. */
static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

#endif
