/**
 * dp_checksum() - the Internet checksum (RFC 1071) of a run of bytes
 * @data: the bytes
 * @len: how many
 *
 * Return: the checksum in host byte order.
 */
uint16_t dp_checksum(const uint8_t *data, size_t len);
