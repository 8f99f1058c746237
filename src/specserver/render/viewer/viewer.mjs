// What the viewer does in the browser; document.py builds what it acts upon.
//
// Run once, when the document is ready. All spectra lie end to end in `store`; `about` has a row a
// spectrum; `shown` holds the one that is drawn.

const SOURCES = ["emission", "absorption", "sky_lines"]
const LABEL_GAP_PX = 13 // the height of a label's letters, which stand on their side
const LABEL_ROW_PX = 62 // the length of the longest label, "[O I] sky"
const EDGE_PX = 5
const LOW_PX = 300 // height of a plot in which a second row of labels covers the spectrum
const PUSH_PX = 20 // how far a label may stand from its line to make room for the one before
const GAUSSIAN_REACH = 4 // σ

// How wavelengths are stored; viewer.py has the same names.
const OWN = 0
const LOG10 = 1

/** Return a part of a column of 32- or 64-bit floats, without a copy. */
function part(column, start, count) {
  // Bokeh's arrays cannot make a subarray of their own kind.
  const Floats = column.BYTES_PER_ELEMENT === 8 ? Float64Array : Float32Array
  return new Floats(column.buffer, column.byteOffset + start * column.BYTES_PER_ELEMENT, count)
}

/** Return the centre and one half of a symmetric kernel: a Gaussian of σ, or a box of a width. */
function half_kernel(boxcar, size) {
  if (boxcar) {
    // Of a width that is no odd number, the outermost pixels count in part.
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

class Viewer {
  constructor(args) {
    this.ui = args
    this.palette = JSON.parse(args.palette)
    this.series = JSON.parse(args.series)
    this.lines = JSON.parse(args.lines)
    this.number = args.about.get("id").length
    this.z = Array.from(args.about.get("z"))
    this.given_z = [...this.z]
    this.current = 0
    this.base_z = 0 // where the fine slider's middle is
    this.busy = false
  }

  start(index) {
    const {ui} = this
    const on = (model, name, act) => model.connect(model.properties[name].change, act)
    on(ui.smoothing, "value", () => this.draw())
    on(ui.kernel, "active", () => this.draw())
    on(ui.coarse, "value", () => this.quiet(() => this.move(ui.coarse.value)))
    on(ui.fine, "value", () => this.quiet(() => this.move(this.base_z + ui.fine.value, true)))
    on(ui.number, "value", () => this.quiet(() => this.move(ui.number.value ?? this.z[this.current])))
    on(ui.kinds, "active", () => this.mark())
    on(ui.dark, "active", () => this.paint())
    on(ui.place, "value", () => this.quiet(() => this.show(ui.place.value - 1)))
    ui.previous.on_click(() => this.quiet(() => this.show(this.current - 1)))
    ui.next.on_click(() => this.quiet(() => this.show(this.current + 1)))
    ui.given.on_click(() => this.quiet(() => this.move(this.given_z[this.current])))
    for (const name of ["start", "end"]) {
      on(ui.plot.x_range, name, () => this.follow())
    }
    addEventListener("keydown", (event) => this.key(event))
    const view = index.get_one(ui.plot)
    // Labels are placed in pixels, so a new size of the window places them anew.
    if (view) new ResizeObserver(() => requestAnimationFrame(() => this.label())).observe(view.el)
    this.paint()
    this.quiet(() => this.show(0))
  }

  /** Do something that sets controls, without their answering to it. */
  quiet(act) {
    if (this.busy) return
    this.busy = true
    try {
      act()
    } finally {
      this.busy = false
    }
  }

  key(event) {
    const target = event.composedPath()[0]
    const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName)
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return
    const step = {n: 1, p: -1}[event.key]
    if (step) this.quiet(() => this.show(this.current + step))
  }

  /** Take a spectrum out of the store. */
  take(number) {
    const {ui} = this
    const row = (name) => ui.about.get(name)[number]
    const [start, count] = [row("start"), row("count")]
    const take = (name) => part(ui.store.get(name), start, count)
    return {
      wave: row("axis") === OWN ? take("wave") : this.axis(row("axis"), row("first"), row("step"), count),
      flux: take("flux"),
      ivar: take("ivar"),
      model: row("has_model") ? take("model") : null,
      sky: row("has_sky") ? take("sky") : null,
    }
  }

  /** Choose a spectrum and draw it whole. */
  show(number) {
    const {ui} = this
    this.current = Math.min(Math.max(number, 0), this.number - 1)
    const row = (name) => ui.about.get(name)[this.current]
    this.one = this.take(this.current)
    this.has_noise = row("has_noise")
    ui.info.text = row("html")
    ui.plot.left[0].axis_label = row("flux_label")
    ui.plot.below[0].axis_label = row("wave_label")
    ui.plot.above[0].axis_label = row("rest_label")
    ui.place.value = this.current + 1
    ui.previous.disabled = this.current === 0
    ui.next.disabled = this.current === this.number - 1
    const limit = (range, start, end) => range.setv({start, end, reset_start: start, reset_end: end})
    limit(ui.plot.y_range, row("flux_low"), row("flux_high"))
    limit(ui.plot.x_range, row("wave_low"), row("wave_high"))
    this.draw()
    this.move(this.z[this.current])
  }

  axis(kind, first, step, count) {
    const values = Float64Array.from({length: count}, (_, i) => first + step * i)
    return kind === LOG10 ? values.map((value) => 10 ** value) : values
  }

  /** Smooth the spectrum and hand it to the lines of the plot. */
  draw() {
    const {ui, one} = this
    const boxcar = ui.kernel.active === 1
    const size = ui.smoothing.value
    const kernel = half_kernel(boxcar, size)
    ui.smoothing.title = boxcar ? "Smoothing, width in pixels" : "Smoothing, σ in pixels"
    const everywhere = new Float64Array(one.wave.length).fill(1)
    const empty = () => new Float64Array(one.wave.length).fill(NaN)
    ui.shown.data = {
      wave: one.wave,
      rest: this.rest(),
      flux: smooth(one.flux, one.ivar, kernel),
      noise: this.has_noise ? smooth_noise(one.ivar, kernel) : empty(),
      model: one.model ? smooth(one.model, one.ivar, kernel) : empty(),
      // Where the sky is bright the data are often without weight, and the sky is of interest.
      sky: one.sky ? smooth(one.sky, everywhere, kernel) : empty(),
    }
    for (const [number, line] of ui.others.entries()) {
      const other = number === this.current ? {wave: [], flux: [], ivar: []} : this.take(number)
      line.data_source.data = {wave: other.wave, flux: smooth(other.flux, other.ivar, kernel)}
    }
  }

  rest() {
    const scale = 1 / (1 + this.z[this.current])
    return this.one.wave.map((wave) => wave * scale)
  }

  /** Move to a redshift: the controls, the marks, and the axis at rest. */
  move(z, fine = false) {
    const {ui} = this
    if (!Number.isFinite(z) || z <= -1) return
    this.z[this.current] = z
    ui.number.value = Math.round(z * 1e6) / 1e6
    if (!fine) {
      this.base_z = z
      ui.fine.value = 0
    }
    ui.coarse.value = Math.min(Math.max(z, ui.coarse.start), ui.coarse.end)
    // The column is read when the pointer rests on a pixel, so nothing is to be drawn anew.
    ui.shown.set("rest", this.rest())
    this.mark()
    this.follow()
  }

  /** Let the axis at rest follow the observed one. */
  follow() {
    const {x_range} = this.ui.plot
    const scale = 1 / (1 + this.z[this.current])
    this.ui.rest_range.setv({
      start: x_range.start * scale,
      end: x_range.end * scale,
      reset_start: x_range.reset_start * scale,
      reset_end: x_range.reset_end * scale,
    })
    this.label()
  }

  /** Return the lines of a kind where they are seen, when they are wanted. */
  seen(kind) {
    const wanted = this.ui.kinds.active.includes(SOURCES.indexOf(kind))
    const scale = kind === "sky_lines" ? 1 : 1 + this.z[this.current]
    return wanted ? this.lines[kind].map(([name, wave]) => ({name, x: wave * scale, kind})) : []
  }

  mark() {
    for (const kind of SOURCES) {
      this.ui[kind].data = {x: this.seen(kind).map((line) => line.x)}
    }
    this.label()
  }

  /** Name the lines in view: emission on top, the others at the bottom, none upon another. */
  label() {
    const {ui} = this
    const height = ui.plot.inner_height ?? 400
    const colours = this.palette[ui.dark.active ? "dark" : "light"]
    const columns = (placed, y) => ({
      x: placed.map(({x}) => x),
      y: placed.map(({row}) => y(row)),
      name: placed.map(({line}) => line.name),
      colour: placed.map(({line}) => colours[line.kind]),
    })
    const above = this.place(this.seen("emission"), height < LOW_PX ? 1 : 2)
    const below = this.place([...this.seen("absorption"), ...this.seen("sky_lines")], 1)
    ui.above.data = columns(above, (row) => height - EDGE_PX - row * LABEL_ROW_PX)
    ui.below.data = columns(below, (row) => EDGE_PX + row * LABEL_ROW_PX)
  }

  /** Give each line in view the row and place where its label is free and next to it, if any. */
  place(lines, rows) {
    const {start, end} = this.ui.plot.x_range
    const scale = (this.ui.plot.inner_width ?? 800) / (end - start)
    const free = Array(rows).fill(LABEL_GAP_PX) // a label stands left of its line
    const placed = []
    let before = {name: "", at: -Infinity}
    for (const line of lines.sort((a, b) => a.x - b.x)) {
      const at = (line.x - start) * scale
      const places = free.map((one) => Math.max(one, at))
      const place = Math.min(...places)
      const row = places.indexOf(place)
      // The lines of a doublet share one name.
      const twin = line.name === before.name && at - before.at < 2 * LABEL_GAP_PX
      if (line.x < start || line.x > end || twin || place - at > PUSH_PX) continue
      free[row] = place + LABEL_GAP_PX
      before = {name: line.name, at}
      placed.push({line, row, x: start + place / scale})
    }
    return placed
  }

  paint() {
    const {ui} = this
    const dark = ui.dark.active
    const colours = this.palette[dark ? "dark" : "light"]
    const {plot} = ui
    ui.page.css_classes = dark ? ["dark"] : []
    plot.setv({background_fill_color: colours.paper, border_fill_color: colours.paper, outline_line_color: colours.ink})
    for (const axis of [...plot.above, ...plot.below, ...plot.left]) {
      const ink = ["axis_line", "major_tick_line", "minor_tick_line", "axis_label_text", "major_label_text"]
      const names = ink.map((name) => `${name}_color`).filter((name) => name in axis.properties)
      axis.setv(Object.fromEntries(names.map((name) => [name, colours.ink])))
      if ("label_text_color" in axis.properties) axis.label_text_color = colours.ink
    }
    for (const names of plot.center.filter((one) => "text_color" in one.properties)) {
      names.background_fill_color = colours.paper
    }
    for (const grid of ui.grids) grid.grid_line_color = colours.faint
    for (const [number, line] of ui.others.entries()) {
      line.glyph.line_color = this.series[dark ? "dark" : "light"][number]
    }
    for (const line of ui.drawn) line.glyph.line_color = colours[line.name]
    for (const marks of ui.marks) marks.glyph.line_color = colours[marks.tags[0]]
    this.label()
  }
}

export default (args, _document, _event, {index}) => {
  new Viewer(args).start(index)
}
