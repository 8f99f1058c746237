// What the viewer does in the browser; document.py builds what it acts upon.
//
// Run once, when the document is ready. All spectra lie end to end in `store`; `rows` has an object a
// spectrum; `shown` holds the one that is drawn. document.py joins the files `*.mjs` of this folder
// to one module.

const SOURCES = ["emission", "absorption", "sky_lines"]
const LABEL_GAP_PX = 13 // the height of a label's letters, which stand on their side
const LABEL_ROW_PX = 62 // the length of the longest label, "[O I] sky"
const EDGE_PX = 5
const LOW_PX = 300 // height of a plot in which a second row of labels covers the spectrum
const PUSH_PX = 20 // how far a label may stand from its line to make room for the one before
const MULTIPLET = 0.02 // lines with one name that differ by less are a multiplet
const MOST_REPAINTS = 3 // after a new spectrum, until the frame of the plot has its new place
const SELECTED = "▸ " // before the name of the selected spectrum

// How wavelengths are stored; document.py has the same names.
const OWN = 0
const LOG10 = 1

/**
 * Return the lines that have a label of their own.
 *
 * The lines of a multiplet have one, at the first, unless there is room for all.
 */
function named(lines, gap) {
  const multiplets = new Map()
  for (const line of lines) {
    const all = multiplets.get(line.name) ?? []
    multiplets.set(line.name, all)
    const last = all.at(-1)?.at(-1)
    if (last && line.x - last.x < MULTIPLET * line.x) all.at(-1).push(line)
    else all.push([line])
  }
  const spare = new Set()
  for (const multiplet of [...multiplets.values()].flat()) {
    const close = multiplet.some((line, at) => at && line.x - multiplet[at - 1].x < gap)
    if (close) multiplet.slice(1).forEach((line) => spare.add(line))
  }
  return lines.filter((line) => !spare.has(line))
}

class Viewer {
  constructor(args, index) {
    this.ui = args
    this.index = index
    this.palette = JSON.parse(args.palette)
    this.lines = JSON.parse(args.lines)
    this.rows = JSON.parse(args.rows)
    this.number = this.rows.length
    this.fits = this.rows.map((row) => row.fits)
    this.z = this.fits.map(([best]) => best.z)
    this.fit = Array(this.number).fill(0) // the fit that is chosen; the first one is the best
    this.current = 0
    this.base_z = 0 // where the fine slider's middle is
    this.busy = false
    this.pointer = null // the last event of the pointer over the plot
    this.inspection = new Inspection(this)
    this.strip = new Strip(this)
  }

  start() {
    const {ui} = this
    const on = (model, name, act) => model.connect(model.properties[name].change, act)
    on(ui.smoothing, "value", () => this.draw())
    on(ui.kernel, "active", () => this.draw())
    on(ui.scaling, "active", () => this.quiet(() => this.show(this.current)))
    on(ui.coarse, "value", () => this.quiet(() => this.move(ui.coarse.value)))
    on(ui.fine, "value", () => this.quiet(() => this.move(this.base_z + ui.fine.value, true)))
    on(ui.number, "value", () => this.quiet(() => this.move(ui.number.value ?? this.z[this.current])))
    on(ui.kinds, "active", () => this.mark())
    on(ui.dark, "active", () => this.paint())
    on(ui.place, "value", () => this.quiet(() => this.show(ui.place.value - 1)))
    on(ui.fits, "value", () => this.quiet(() => this.choose(Number(ui.fits.value))))
    ui.previous.on_click(() => this.quiet(() => this.show(this.current - 1)))
    ui.next.on_click(() => this.quiet(() => this.show(this.current + 1)))
    ui.given.on_click(() => this.quiet(() => this.move(this.chosen_fit().z)))
    for (const name of ["start", "end"]) {
      on(ui.plot.x_range, name, () => this.busy || this.follow())
    }
    for (const line of ui.others) on(line, "visible", () => this.lead())
    addEventListener("keydown", (event) => this.key(event))
    const view = this.index.get_one(ui.plot)
    if (view) {
      // Labels are placed in pixels, so a new size of the window places them anew.
      new ResizeObserver(() => requestAnimationFrame(() => this.label())).observe(view.el)
      const {events_el} = view.canvas_view
      events_el.addEventListener("pointermove", (event) => (this.pointer = event))
      events_el.addEventListener("pointerleave", () => (this.pointer = null))
      // A new spectrum may move the frame of the plot, and Bokeh keeps its tooltip as it was then.
      view.repainted.connect(() => this.point(events_el))
    }
    this.inspection.start(on)
    this.strip.start()
    this.paint()
    this.quiet(() => this.show(0))
  }

  colours() {
    return this.palette[this.ui.dark.active ? "dark" : "light"]
  }

  /** Do something that sets controls, while their own handlers do nothing. */
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
    if (typing && ["Escape", "Enter"].includes(event.key)) target.blur()
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return
    const step = {n: 1, p: -1}[event.key]
    const act = step ? () => this.show(this.current + step) : this.inspection.act(event.key)
    if (!act) return
    event.preventDefault()
    this.quiet(act)
  }

  /** Repeat the last movement of the pointer: the tooltip then shows the new spectrum. */
  point(area) {
    if (!this.pointer || this.repaints >= MOST_REPAINTS) return
    this.repaints++
    const {clientX, clientY} = this.pointer
    area.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY, isPrimary: true, bubbles: true}))
  }

  /** Take a spectrum out of the store. */
  take(number) {
    const {axis, first, step, start, count, fits, has_sky} = this.rows[number]
    const vector = (name) => part(this.ui.store.get(name), start, count)
    return {
      wave: axis === OWN ? vector("wave") : this.axis(axis, first, step, count),
      flux: vector("flux"),
      ivar: vector("ivar"),
      model: fits[0].model ? vector("model") : null,
      sky: has_sky ? vector("sky") : null,
    }
  }

  /** Choose a spectrum and draw it whole. */
  show(number) {
    const {ui} = this
    this.current = Math.min(Math.max(number, 0), this.number - 1)
    const row = this.rows[this.current]
    this.spectrum = this.take(this.current)
    this.factors = this.z.map((_, at) => (ui.others.length ? this.factor(at) : 1))
    this.repaints = 0
    ui.info.text = row.html
    ui.plot.left[0].axis_label = row.flux_label
    ui.plot.below[0].axis_label = row.wave_label
    ui.plot.above[0].axis_label = row.rest_label
    ui.place.value = this.current + 1
    ui.previous.disabled = this.current === 0
    ui.next.disabled = this.current === this.number - 1
    const limit = (range, start, end) => range.setv({start, end, reset_start: start, reset_end: end})
    limit(ui.plot.y_range, ...this.flux_limits())
    limit(ui.plot.x_range, row.wave_low, row.wave_high)
    this.smooth()
    this.draw_others()
    this.move(this.z[this.current])
    this.strip.show(this.current)
    this.inspection.show()
  }

  axis(kind, first, step, count) {
    const values = Float64Array.from({length: count}, (_, i) => first + step * i)
    return kind === LOG10 ? values.map((value) => 10 ** value) : values
  }

  kernel() {
    const {kernel, smoothing} = this.ui
    return half_kernel(kernel.active === 1, smoothing.value)
  }

  /** Smooth the spectra and draw them. */
  draw() {
    this.smooth()
    this.draw_others()
    this.hand_over()
  }

  smooth() {
    const {ui, spectrum} = this
    const kernel = this.kernel()
    ui.smoothing.title = ui.kernel.active === 1 ? "Smoothing, width in pixels" : "Smoothing, σ in pixels"
    const everywhere = new Float64Array(spectrum.wave.length).fill(1)
    this.nothing = new Float64Array(spectrum.wave.length).fill(NaN)
    this.smoothed = {
      flux: smooth(spectrum.flux, spectrum.ivar, kernel),
      noise: this.rows[this.current].has_noise ? smooth_noise(spectrum.ivar, kernel) : this.nothing,
      model: spectrum.model ? smooth(spectrum.model, spectrum.ivar, kernel) : this.nothing,
      // Where the sky is bright the data are often without weight, and the sky is of interest.
      sky: spectrum.sky ? smooth(spectrum.sky, everywhere, kernel) : this.nothing,
    }
  }

  /** Give the plot the values of the spectrum. */
  hand_over() {
    const {ui, spectrum, smoothed} = this
    const columns = {wave: spectrum.wave, rest: this.rest(), ...smoothed, model: this.template()}
    if (ui.others.length) columns.name = Array(spectrum.wave.length).fill(ui.others[this.current].name)
    ui.shown.data = columns
  }

  /** Return the model of the chosen fit at the redshift that is shown. */
  template() {
    const {model} = this.smoothed
    if (!this.chosen_fit().model) return this.nothing
    const factor = (1 + this.z[this.current]) / (1 + this.chosen_fit().z)
    return factor === 1 || !this.chosen_fit().known ? model : stretched(this.spectrum.wave, model, factor)
  }

  chosen_fit() {
    return this.fits[this.current][this.fit[this.current]]
  }

  offer_fits() {
    const {ui, current} = this
    const options = this.fits[current].map(({text}, at) => [String(at), text])
    // Bokeh makes the menu anew for each value that it is given.
    if (JSON.stringify(options) !== JSON.stringify(ui.fits.options)) ui.fits.options = options
    ui.fits.value = String(this.fit[current])
    ui.fits.disabled = this.fits[current].length === 1
  }

  /** Choose one of the fits of the survey: its redshift, and its template if the survey has it. */
  choose(fit) {
    this.fit[this.current] = fit
    this.offer_fits()
    this.move(this.chosen_fit().z)
  }

  /** Return the limits of the flux axis: those of the spectrum, or of all with good pixels that are drawn over one another. */
  flux_limits() {
    const {ui, current} = this
    const own = (name, at) => this.rows[at][name] * this.factors[at]
    const lit = [...ui.others.keys()].filter((at) => this.rows[at].has_flux)
    const all = lit.length ? lit : [current]
    return [Math.min(...all.map((at) => own("flux_low", at))), Math.max(...all.map((at) => own("flux_high", at)))]
  }

  /** Draw all spectra over one another, if the page does, and write their factors in the legend. */
  draw_others() {
    const {ui, current} = this
    const kernel = this.kernel()
    for (const [number, line] of ui.others.entries()) {
      const other = this.take(number)
      const factor = this.factors[number]
      const flux = smooth(other.flux, other.ivar, kernel)
      line.data_source.data = {wave: other.wave, flux: factor === 1 ? flux : flux.map((value) => value * factor)}
      const name = (number === current ? SELECTED : "") + line.name
      ui.names[number].label = {value: factor === 1 ? name : `${name}  × ${factor.toPrecision(3)}`}
    }
    this.lead()
  }

  /** Return the factor that brings a spectrum to the selected one, where both have pixels. */
  factor(number) {
    if (this.ui.scaling.active === 0 || number === this.current) return 1
    const other = this.take(number)
    const ends = [this.spectrum, other].map(({wave}) => [wave[0], wave[wave.length - 1]])
    const low = Math.max(...ends.map(([first]) => first))
    const high = Math.min(...ends.map(([, last]) => last))
    const factor = median_within(this.spectrum, low, high) / median_within(other, low, high)
    return factor > 0 && Number.isFinite(factor) ? factor : 1
  }

  /** Draw the selected spectrum in front, in its colour, unless its name in the legend hides it. */
  lead() {
    const {ui, current} = this
    if (!ui.others.length) return
    const flux = ui.drawn.find(({name}) => name === "flux")
    flux.visible = ui.others[current].visible
    flux.glyph.line_color = this.colours().series[current]
  }

  rest() {
    const scale = 1 / (1 + this.z[this.current])
    return this.spectrum.wave.map((wave) => wave * scale)
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
    this.hand_over()
    this.mark()
    this.follow()
  }

  /** Compute the axis at rest from the observed one. */
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

  /** Return the lines of a kind at their observed wavelengths; none if the kind is not chosen. */
  seen(kind) {
    const wanted = this.ui.kinds.active.includes(SOURCES.indexOf(kind))
    const scale = kind === "sky_lines" ? 1 : 1 + this.z[this.current]
    return wanted ? this.lines[kind].map(([name, wave]) => ({name, x: wave * scale, kind})) : []
  }

  mark() {
    for (const kind of SOURCES) {
      this.ui[kind].data = {x: this.seen(kind).map((line) => line.x)}
    }
    if (!this.busy) this.label()
  }

  /** Name the lines in view, emission at the top, the others at the bottom, without overlaps. */
  label() {
    const {ui} = this
    const height = ui.plot.inner_height ?? 400
    const colours = this.colours()
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

  /** Place the labels of the lines in view: each in the row with room nearest to its line, or not at all. */
  place(lines, rows) {
    const {start, end} = this.ui.plot.x_range
    const scale = (this.ui.plot.inner_width ?? 800) / (end - start)
    const free = Array(rows).fill(LABEL_GAP_PX) // a label stands left of its line
    const placed = []
    const seen = lines.filter((line) => line.x >= start && line.x <= end).sort((a, b) => a.x - b.x)
    for (const line of named(seen, (2 * LABEL_GAP_PX) / scale)) {
      const at = (line.x - start) * scale
      const places = free.map((end) => Math.max(end, at))
      const place = Math.min(...places)
      const row = places.indexOf(place)
      if (place - at > PUSH_PX) continue
      free[row] = place + LABEL_GAP_PX
      placed.push({line, row, x: start + place / scale})
    }
    return placed
  }

  paint() {
    const {ui} = this
    const {plot} = ui
    const colours = this.colours()
    ui.page.css_classes = ui.dark.active ? ["dark"] : []
    plot.setv({background_fill_color: colours.paper, border_fill_color: colours.paper, outline_line_color: colours.ink})
    for (const axis of [...plot.above, ...plot.below, ...plot.left]) {
      const ink = ["axis_line", "major_tick_line", "minor_tick_line", "axis_label_text", "major_label_text"]
      const names = ink.map((name) => `${name}_color`).filter((name) => name in axis.properties)
      axis.setv(Object.fromEntries(names.map((name) => [name, colours.ink])))
      if ("label_text_color" in axis.properties) axis.label_text_color = colours.ink
    }
    for (const names of plot.center.filter((part) => "text_color" in part.properties)) {
      names.background_fill_color = colours.paper
    }
    for (const grid of ui.grids) grid.grid_line_color = colours.faint
    for (const [number, line] of ui.others.entries()) line.glyph.line_color = colours.series[number]
    for (const line of ui.drawn) line.glyph.line_color = colours[line.name]
    this.lead()
    this.strip.paint(colours)
    for (const marks of ui.marks) marks.glyph.line_color = colours[marks.tags[0]]
    this.label()
  }
}

export default (args, _document, _event, {index}) => {
  new Viewer(args, index).start()
}
