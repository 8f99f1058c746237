// A strip with a small picture of each spectrum, which is drawn when it comes into view.

const THUMB_WIDTH_PX = 92
const THUMB_HEIGHT_PX = 40
const EDGE = 0.06 // part of the height that stays free above and below

class Strip {
  constructor(viewer) {
    this.viewer = viewer
    this.buttons = []
  }

  start() {
    const view = this.viewer.index.get_one(this.viewer.ui.strip)
    if (!view || !this.viewer.ui.strip.visible) return
    const box = document.createElement("div")
    box.className = "strip"
    view.shadow_el.append(box)
    this.watcher = new IntersectionObserver((seen) => this.draw_seen(seen), {root: box, rootMargin: "0px 300px"})
    this.buttons = this.viewer.rows.map(({name}, number) => this.button(box, name, number))
    this.viewer.inspection.badge_all()
  }

  button(box, name, number) {
    const button = document.createElement("button")
    button.title = `${number + 1}: ${name}`
    const canvas = document.createElement("canvas")
    canvas.width = THUMB_WIDTH_PX * devicePixelRatio
    canvas.height = THUMB_HEIGHT_PX * devicePixelRatio
    button.append(canvas)
    button.addEventListener("click", () => {
      button.blur()
      this.viewer.quiet(() => this.viewer.show(number))
    })
    box.append(button)
    return button
  }

  /** Frame the thumbnail of the spectrum that is shown, and bring it into view. */
  show(number) {
    const button = this.buttons[number]
    if (!button) return
    this.buttons[this.shown]?.classList.remove("shown")
    this.shown = number
    button.classList.add("shown")
    const box = button.parentElement
    const left = button.offsetLeft - box.offsetLeft
    const outside = left < box.scrollLeft || left + button.offsetWidth > box.scrollLeft + box.clientWidth
    if (outside) box.scrollLeft = left - (box.clientWidth - button.offsetWidth) / 2
  }

  /** Write the quality and the issues of a spectrum on its thumbnail. */
  badge(number, quality, issues) {
    const button = this.buttons[number]
    if (button) button.dataset.said = `${quality ?? ""}${issues ?? ""}`
  }

  /** Draw all thumbnails again, in other colours. */
  paint(colours) {
    this.colours = colours
    for (const button of this.buttons) {
      this.watcher.unobserve(button)
      this.watcher.observe(button)
    }
  }

  draw_seen(seen) {
    for (const {target, isIntersecting} of seen) {
      if (!isIntersecting) continue
      this.watcher.unobserve(target)
      this.draw(target.firstChild, this.buttons.indexOf(target))
    }
  }

  draw(canvas, number) {
    const {flux, ivar} = this.viewer.take(number)
    const means = binned(flux, ivar, canvas.width)
    const finite = means.filter(Number.isFinite)
    const low = Math.min(0, ...finite)
    const room = (Math.max(0, ...finite) - low || 1) / (1 - 2 * EDGE)
    const pen = canvas.getContext("2d")
    pen.clearRect(0, 0, canvas.width, canvas.height)
    pen.strokeStyle = this.colours.flux
    pen.lineWidth = devicePixelRatio
    pen.beginPath()
    let drawn = false
    means.forEach((mean, x) => {
      const y = canvas.height * (1 - EDGE - (mean - low) / room)
      if (drawn) pen.lineTo(x, y)
      else pen.moveTo(x, y)
      drawn = Number.isFinite(mean)
    })
    pen.stroke()
  }
}

/** Return the weighted means of equal parts of a spectrum; NaN where there is no information. */
function binned(values, weights, nbins) {
  const sums = new Float64Array(nbins)
  const norms = new Float64Array(nbins)
  for (let i = 0; i < values.length; i++) {
    if (!(weights[i] > 0)) continue
    const bin = Math.floor((i * nbins) / values.length)
    sums[bin] += weights[i] * values[i]
    norms[bin] += weights[i]
  }
  return sums.map((sum, bin) => sum / norms[bin])
}
