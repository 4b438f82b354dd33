// SHA-256 (FIPS 180-4) of a text. Browsers bring their own only to pages that come by https or from this machine, and a
// teacher's folder may come from another one.

const primes = (n) => {
  const found = [];
  for (let i = 2; found.length < n; i++) if (found.every((prime) => i % prime)) found.push(i);
  return found;
};
const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
const ROUNDS = primes(64).map((prime) => fraction(Math.cbrt(prime)));
const turn = (x, n) => (x >>> n) | (x << (32 - n));

export function sha256(text) {
  const bytes = new TextEncoder().encode(text), blocks = (bytes.length + 9 + 63) >> 6;
  const padded = new Uint8Array(blocks * 64), view = new DataView(padded.buffer);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  view.setUint32(blocks * 64 - 4, bytes.length * 8);
  let sum = primes(8).map((prime) => fraction(Math.sqrt(prime)));
  for (let block = 0; block < blocks; block++) sum = compress(sum, view, block * 64);
  return sum.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

function compress(sum, view, start) {
  const w = Array.from({ length: 16 }, (_, i) => view.getInt32(start + 4 * i));
  for (let i = 16; i < 64; i++) {
    const near = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
    const far = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
    w[i] = (w[i - 16] + near + w[i - 7] + far) | 0;
  }
  let [a, b, c, d, e, f, g, h] = sum;
  for (let i = 0; i < 64; i++) {
    const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
    const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  return [a, b, c, d, e, f, g, h].map((word, i) => (word + sum[i]) | 0);
}
