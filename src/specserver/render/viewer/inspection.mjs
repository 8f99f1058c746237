// Visual inspection: the records that the user makes of spectra, and the files that hold them.
//
// A record has the columns of the file that the user filled; document.py states all columns.

const FILLED = ["VI_quality", "VI_issue", "VI_z", "VI_spectype", "VI_comment"]
const SCANNER = "VI_scanner"
const SCANNER_KEY = "inspection scanner"

function is_filled(record) {
  return FILLED.some((name) => name in record)
}

/** Return the rows of a CSV or ECSV file, each as an object of texts by our names of columns. */
function read_table(text, aliases) {
  const lines = text.replace(/^\uFEFF/, "")
  const [heading] = lines.match(/^(?:#.*(?:\r?\n|$))*/)
  // ECSV separates columns by blanks unless its heading says otherwise.
  const blank = heading.includes("%ECSV") && !/delimiter: *['"]?,/.test(heading)
  const [names, ...rows] = read_cells(lines.slice(heading.length), blank ? " " : ",")
  const ours = (name) => aliases[name.trim()] ?? name.trim()
  return rows.map((row) => Object.fromEntries(names.map((name, at) => [ours(name), row[at] ?? ""])))
}

function read_cells(text, delimiter) {
  const cell = new RegExp(`("(?:[^"]|"")*"|[^${delimiter}\\r\\n]*)(${delimiter}|\\r?\\n|$)`, "y")
  const rows = [[]]
  while (cell.lastIndex < text.length) {
    const found = cell.exec(text)
    if (!found) throw new Error("a quotation mark is not closed")
    const [, value, end] = found
    rows.at(-1).push(value.startsWith('"') ? value.slice(1, -1).replaceAll('""', '"') : value)
    if (end !== delimiter) rows.push([])
  }
  return rows.filter((row) => row.some((value) => value !== ""))
}

/** Return a table as CSV, or as ECSV with the types and meanings of its columns. */
function write_table(columns, rows, ecsv) {
  const cell = ({name, datatype}, row) => {
    const text = String(row[name] ?? "")
    // Without quotation marks an empty text is a missing one in ECSV.
    const plain = datatype !== "string" || (text && !/[",#\s]/.test(text))
    return plain ? text : `"${text.replaceAll('"', '""')}"`
  }
  const lines = [columns.map(({name}) => name), ...rows.map((row) => columns.map((column) => cell(column, row)))]
  const described = columns.map(
    ({name, datatype, description}) => `# - {name: ${name}, datatype: ${datatype}, description: ${JSON.stringify(description)}}`,
  )
  const heading = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:", ...described, "# schema: astropy-2.0"]
  return [...(ecsv ? heading : []), ...lines.map((line) => line.join(","))].join("\n") + "\n"
}

function download(name, type, text) {
  const link = document.createElement("a")
  link.href = URL.createObjectURL(new Blob([text], {type}))
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10000)
}

/** Return what the browser keeps under a name, or null; a page in a frame may not be allowed to ask. */
function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(name))
  } catch {
    return null
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value))
    return true
  } catch {
    return false
  }
}

class Inspection {
  constructor(viewer) {
    this.viewer = viewer
    this.ui = viewer.ui
    this.about = JSON.parse(viewer.ui.inspection)
    this.records = Array.from({length: viewer.number}, () => ({}))
  }

  start(on) {
    const {ui, about, viewer} = this
    const change = (part, name, act) => on(part, name, () => viewer.quiet(() => act(part[name])))
    change(ui.quality, "active", (at) => this.set("VI_quality", at))
    change(ui.spectype, "active", (at) => this.set("VI_spectype", about.classes[at]))
    change(ui.issues, "active", (active) => this.set("VI_issue", [...active].sort().map((at) => about.issues[at]).join("")))
    change(ui.corrected, "value", (z) => this.set("VI_z", z))
    change(ui.comment, "value", (text) => this.set("VI_comment", text.trim()))
    change(ui.scanner, "value", (text) => remember(SCANNER_KEY, text.trim()))
    change(ui.load, "value", (file) => file && this.load(file))
    change(ui.inspect, "active", (open) => this.open(open))
    ui.take.on_click(() => viewer.quiet(() => this.take()))
    ui.csv.on_click(() => this.save(false))
    ui.ecsv.on_click(() => this.save(true))
    ui.scanner.value = recall(SCANNER_KEY) ?? ""
    this.merge(about.rows)
    const kept = recall(about.key)
    if (kept?.length === this.records.length) this.records = kept
  }

  /** Return what a key does, or null. */
  act(key) {
    const {ui, about, viewer} = this
    if (key === "i") return () => this.open(!ui.panel.visible)
    if (!ui.panel.visible) return null
    if (/^[0-4]$/.test(key)) return () => this.toggle("VI_quality", Number(key))
    const kind = about.classes.find((name) => name[0].toLowerCase() === key)
    if (kind) return () => this.toggle("VI_spectype", kind)
    if (about.issues.includes(key)) return () => this.toggle_issue(key)
    return {
      z: () => this.take(),
      c: () => viewer.index.get_one(ui.comment).shadow_el.querySelector("input").focus(),
      u: () => this.next_open(),
      f: () => viewer.choose((viewer.fit[viewer.current] + 1) % viewer.fits[viewer.current].length),
    }[key] ?? null
  }

  open(open) {
    this.ui.panel.visible = open
    this.ui.inspect.active = open
    this.show()
  }

  record() {
    return this.records[this.viewer.current]
  }

  /** Set a value of the spectrum that is shown; null, undefined or an empty text removes it. */
  set(name, value) {
    const record = this.record()
    if (value === null || value === undefined || value === "") delete record[name]
    else record[name] = value
    const scanner = this.ui.scanner.value.trim()
    if (scanner && is_filled(record)) record[SCANNER] = scanner
    else delete record[SCANNER]
    this.badge(this.viewer.current)
    this.kept = remember(this.about.key, this.records)
    this.message = ""
    this.show()
  }

  toggle(name, value) {
    this.set(name, this.record()[name] === value ? null : value)
  }

  toggle_issue(letter) {
    const said = this.record().VI_issue ?? ""
    const wanted = (other) => (other === letter) !== said.includes(other)
    this.set("VI_issue", this.about.issues.filter(wanted).join(""))
  }

  /** Take the redshift that is shown as the corrected one. */
  take() {
    this.set("VI_z", Math.round(this.viewer.z[this.viewer.current] * 1e6) / 1e6)
  }

  /** Go to the next spectrum without a quality. */
  next_open() {
    const {current, number} = this.viewer
    const order = Array.from({length: number}, (_, i) => (current + 1 + i) % number)
    const open = order.find((at) => !("VI_quality" in this.records[at]))
    if (open !== undefined) this.viewer.show(open)
  }

  badge(number) {
    this.viewer.strip.badge(number, this.records[number].VI_quality, this.records[number].VI_issue)
  }

  badge_all() {
    this.records.forEach((_, number) => this.badge(number))
  }

  /** Show the record of the current spectrum in the panel. */
  show() {
    const {ui, about} = this
    if (!ui.panel.visible) return
    this.viewer.offer_fits()
    const record = this.record()
    const kind = about.classes.indexOf(record.VI_spectype)
    ui.quality.active = record.VI_quality ?? null
    ui.spectype.active = kind < 0 ? null : kind
    ui.issues.active = about.issues.flatMap((letter, at) => (record.VI_issue?.includes(letter) ? [at] : []))
    ui.corrected.value = record.VI_z ?? null
    ui.comment.value = record.VI_comment ?? ""
    const done = this.records.filter((each) => "VI_quality" in each).length
    const counted = `${done} of ${this.records.length} spectra have a quality.`
    const kept = this.kept === false ? " This browser keeps nothing: save before you leave." : ""
    const parts = [about.qualities[record.VI_quality] ?? "", `${counted}${kept}`, this.message ?? ""]
    ui.progress.text = parts.filter(Boolean).join(" &ensp; ")
  }

  /** Return the rows of the file: one for each spectrum that has a record. */
  rows() {
    return this.records.flatMap((record, at) => {
      if (!is_filled(record)) return []
      const {id, context, class: kind, fits} = this.viewer.rows[at]
      const z = fits[0].known ? fits[0].z : ""
      return [{id, context, class: kind, z, VI_quality: -1, ...record}]
    })
  }

  save(ecsv) {
    const words = this.ui.scanner.value.match(/[\p{L}\p{N}]+/gu) ?? []
    const name = `${["inspection", ...words].join("-")}.${ecsv ? "ecsv" : "csv"}`
    download(name, "text/csv", write_table(this.about.columns, this.rows(), ecsv))
  }

  /** Read a file, encoded in base 64, that the user chose. */
  load(encoded) {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0))
    try {
      const rows = read_table(new TextDecoder().decode(bytes), this.about.aliases)
      if (!rows.length) throw new Error("no rows")
      const refused = this.refused(rows)
      const read = refused ? 0 : this.merge(rows)
      const others = refused ? 0 : rows.length - read
      this.message = refused || `Read ${read} rows.`
      if (others) this.message += ` ${others} are of spectra that this page does not hold.`
    } catch {
      this.message = "This is no table of inspected spectra: it needs columns as CSV or ECSV, id among them."
    }
    this.kept = remember(this.about.key, this.records)
    this.badge_all()
    this.show()
  }

  /** Return a sentence about the first row with a value that its column cannot have; empty: there is none. */
  refused(rows) {
    for (const [at, row] of rows.entries()) {
      for (const [name, text] of Object.entries(row)) {
        const column = this.about.columns.find((each) => each.name === name)
        if (column && text.trim() && !RegExp(`^(?:${column.pattern})$`).test(text.trim()))
          return `Nothing is read: row ${at + 1} has no possible ${column.name} (${column.description}).`
      }
    }
    return ""
  }

  /** Merge rows into the records of the spectra that the page holds; return how many rows these are. */
  merge(rows) {
    const spectra = this.viewer.rows
    const places = new Map()
    spectra.forEach(({id}, at) => places.set(id, [...(places.get(id) ?? []), at]))
    let read = 0
    for (const row of rows) {
      if (row.id === undefined) throw new Error("no column id")
      const context = (at) => spectra[at].context
      const here = (places.get(row.id.trim()) ?? []).filter((at) => !row.context || !context(at) || row.context === context(at))
      read += here.length > 0
      for (const at of here) this.records[at] = record_of(row, this.about.issues)
    }
    return read
  }
}

/** Return the record of a row of valid texts, without the columns that have no value. */
function record_of(row, issues) {
  const text = (name) => (row[name] ?? "").trim()
  const quality = text("VI_quality")
  const z = text("VI_z")
  const record = {
    VI_quality: quality && Number(quality) >= 0 ? Number(quality) : "",
    VI_issue: issues.filter((letter) => text("VI_issue").includes(letter)).join(""),
    VI_z: z && Number.isFinite(Number(z)) ? Number(z) : "",
    VI_spectype: text("VI_spectype"),
    VI_comment: text("VI_comment"),
    VI_scanner: text(SCANNER),
  }
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== ""))
}
