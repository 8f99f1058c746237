// Arithmetic on the vectors of spectra.

const GAUSSIAN_REACH = 4 // σ

/** Return a part of a column of 32- or 64-bit floats, without a copy. */
function part(column, start, count) {
  // Bokeh's arrays cannot make a subarray of their own kind.
  const Floats = column.BYTES_PER_ELEMENT === 8 ? Float64Array : Float32Array
  return new Floats(column.buffer, column.byteOffset + start * column.BYTES_PER_ELEMENT, count)
}

/** Return the centre and one half of a symmetric kernel: a Gaussian of σ, or a box of a width. */
function half_kernel(boxcar, size) {
  if (boxcar) {
    // If the width is no odd number, the outermost pixels count in part.
    const reach = Math.max((size - 1) / 2, 0)
    return Float64Array.from({length: Math.ceil(reach) + 1}, (_, i) => Math.min(1, 1 + reach - i))
  }
  const reach = Math.ceil(GAUSSIAN_REACH * size)
  return Float64Array.from({length: reach + 1}, (_, i) => (i ? Math.exp((-i * i) / (2 * size * size)) : 1))
}

/**
 * Return the mean of the neighbours of each pixel, weighted by kernel × inverse variance.
 *
 * A pixel without information (weight 0) gives nothing to its neighbours and stays a gap; at the
 * ends of a spectrum the kernel is cut, and its weights are normalised anew.
 */
function smooth(values, weights, kernel) {
  const n = values.length
  const reach = kernel.length - 1
  const out = new Float64Array(n).fill(NaN)
  for (let i = 0; i < n; i++) {
    if (!(weights[i] > 0)) continue
    let sum = 0
    let norm = 0
    for (let j = Math.max(0, i - reach); j <= Math.min(n - 1, i + reach); j++) {
      if (!(weights[j] > 0)) continue
      const weight = kernel[Math.abs(i - j)] * weights[j]
      sum += weight * values[j]
      norm += weight
    }
    out[i] = sum / norm
  }
  return out
}

/** Return the error of the weighted mean that `smooth` forms, for pixels independent of each other. */
function smooth_noise(weights, kernel) {
  const n = weights.length
  const reach = kernel.length - 1
  const out = new Float64Array(n).fill(NaN)
  for (let i = 0; i < n; i++) {
    if (!(weights[i] > 0)) continue
    let variance = 0
    let norm = 0
    for (let j = Math.max(0, i - reach); j <= Math.min(n - 1, i + reach); j++) {
      const k = kernel[Math.abs(i - j)]
      variance += k * k * weights[j]
      norm += k * weights[j]
    }
    out[i] = Math.sqrt(variance) / norm
  }
  return out
}

/** Return values on the wavelengths `wave`, interpolated, after their own were multiplied by a factor. */
function stretched(wave, values, factor) {
  const out = new Float64Array(wave.length).fill(NaN)
  let at = 0
  for (let i = 0; i < wave.length; i++) {
    const own = wave[i] / factor
    while (at < wave.length - 2 && wave[at + 1] < own) at++
    const part = (own - wave[at]) / (wave[at + 1] - wave[at])
    if (part >= 0 && part <= 1) out[i] = values[at] + part * (values[at + 1] - values[at])
  }
  return out
}

/** Return the median of the fluxes with information within two wavelengths, or NaN. */
function median_within({wave, flux, ivar}, low, high) {
  const inside = flux.filter((_, i) => ivar[i] > 0 && wave[i] >= low && wave[i] <= high).sort()
  return inside.length ? inside[inside.length >> 1] : NaN
}
