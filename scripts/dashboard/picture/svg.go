package picture

import (
	"fmt"
	"html"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Sizes in pixels.
const (
	cellWidth, cellHeight = 52, 38
	header                = 34
	margin                = 6  // around a widget
	padding               = 10 // within one
	lineHeight            = 14
	colours               = 8
)

// style has light colours, and dark ones for whoever prefers them. Classes name what is drawn, not how it looks.
const style = `text{font:11px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#24292f}
.page{fill:#f6f8fa}.box{fill:#fff;stroke:#d0d7de}.title{font-weight:600;font-size:12px}.head{font-weight:600;font-size:15px}
.faint{fill:#6e7781}.grid{stroke:#d8dee4;stroke-width:1}.tile{fill:#eaeef2;stroke:#afb8c1;stroke-dasharray:3 2}
.l{fill:none;stroke-linejoin:round}.a{stroke:none;fill-opacity:.75}
.s0{stroke:#0969da;fill:#0969da}.s1{stroke:#bc4c00;fill:#bc4c00}.s2{stroke:#1a7f37;fill:#1a7f37}.s3{stroke:#cf222e;fill:#cf222e}
.s4{stroke:#8250df;fill:#8250df}.s5{stroke:#9a6700;fill:#9a6700}.s6{stroke:#0b7a75;fill:#0b7a75}.s7{stroke:#bf3989;fill:#bf3989}
.l.s0,.l.s1,.l.s2,.l.s3,.l.s4,.l.s5,.l.s6,.l.s7{fill:none}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.box{fill:#161b22;stroke:#30363d}.faint{fill:#8b949e}
.grid{stroke:#262c36}.tile{fill:#21262d;stroke:#6e7681}
.s0{stroke:#58a6ff;fill:#58a6ff}.s1{stroke:#f0883e;fill:#f0883e}.s2{stroke:#3fb950;fill:#3fb950}.s3{stroke:#ff7b72;fill:#ff7b72}
.s4{stroke:#bc8cff;fill:#bc8cff}.s5{stroke:#d29922;fill:#d29922}.s6{stroke:#39c5cf;fill:#39c5cf}.s7{stroke:#f778ba;fill:#f778ba}
.l.s0,.l.s1,.l.s2,.l.s3,.l.s4,.l.s5,.l.s6,.l.s7{fill:none}}
`

// Draw gives the dashboard as an SVG that needs nothing else. Whatever comes from outside is escaped.
func Draw(b Board, r Run) []byte {
	d := &drawing{run: r, axis: r.axis()}
	rows := 0
	for _, w := range b.widgets {
		rows = max(rows, w.Y+w.Height)
	}
	width, height := columns*cellWidth+2*margin, header+rows*cellHeight+margin
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="The dashboard with a run of the local system">`+"\n",
		width, height, width, height)
	d.printf("<style>%s</style>\n", style)
	d.printf(`<rect class="page" width="%d" height="%d"/>`+"\n", width, height)
	d.text(2*margin, header-12, "head", "Waybill")
	d.text(2*margin+70, header-12, "faint", fmt.Sprintf("The dashboard of the stack, with a run of the local system: %s, a point every %s. What a local run cannot know is \"no data\".",
		r.end.Sub(r.begin).Round(time.Second), d.axis.period))
	for _, w := range b.widgets {
		d.widget(w, box{float64(margin + w.X*cellWidth + margin/2), float64(header + w.Y*cellHeight), float64(w.Width*cellWidth - margin), float64(w.Height*cellHeight - margin)})
	}
	d.printf("</svg>\n")
	return []byte(d.out.String())
}

type drawing struct {
	out  strings.Builder
	run  Run
	axis axis
}

type box struct{ x, y, w, h float64 }

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

func (d *drawing) text(x, y float64, class, text string, more ...string) {
	d.printf(`<text x="%s" y="%s" class="%s"%s>%s</text>`+"\n", px(x), px(y), class, strings.Join(more, ""), escape(text))
}

// escape makes text of anything: what XML cannot hold is left out.
func escape(text string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xFFFE || r == 0xFFFF || r == utf8.RuneError {
			return -1
		}
		return r
	}, text))
}

func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// fit cuts a text to a width, as far as one can tell without its font.
func fit(text string, width, perRune float64) string {
	runes := []rune(text)
	if most := max(1, int(width/perRune)); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// Attributes of a text.
const (
	end    = ` text-anchor="end"`
	middle = ` text-anchor="middle"`
)

const (
	titleRune = 7.0 // average width of a character
	textRune  = 6.1
)

func (d *drawing) widget(w widget, b box) {
	d.printf(`<g><rect class="box" x="%s" y="%s" width="%s" height="%s" rx="5"/>`+"\n", px(b.x), px(b.y), px(b.w), px(b.h))
	inner := box{b.x + padding, b.y + 22, b.w - 2*padding, b.h - 22 - padding}
	if w.Properties.Title != "" {
		d.text(inner.x, b.y+16, "title", fit(w.Properties.Title, inner.w, titleRune))
	}
	if unit := w.Properties.YAxis.Left.Label; unit != "" {
		d.text(b.x+b.w-padding, b.y+16, "faint", fit(unit, inner.w, textRune), end)
	}
	switch w.Type {
	case "text":
		d.prose(w.Properties.Markdown, box{inner.x, b.y + padding, inner.w, b.h - 2*padding})
	case "alarm":
		d.alarms(w, inner)
	case "metric":
		d.graph(w, inner)
	default:
		d.nothing(inner)
	}
	d.printf("</g>\n")
}

func (d *drawing) nothing(b box) {
	d.text(b.x+b.w/2, b.y+b.h/2, "faint", "no data", middle)
}

var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// prose breaks a text into lines. Links are shown by their names.
func (d *drawing) prose(markdown string, b box) {
	text := strings.NewReplacer("`", "", "*", "").Replace(link.ReplaceAllString(markdown, "$1"))
	y, row := b.y, ""
	flush := func() {
		if y += lineHeight; y <= b.y+b.h+2 && row != "" {
			d.text(b.x, y, "", row)
		}
		row = ""
	}
	for word := range strings.FieldsSeq(text) {
		if row != "" && float64(utf8.RuneCountInString(row)+utf8.RuneCountInString(word)+1)*textRune > b.w {
			flush()
		}
		row = strings.TrimPrefix(row+" "+fit(word, b.w, textRune), " ")
	}
	flush()
}

// alarms draws a tile for each. A local run has no alarms, so that nobody knows their states; of a widget that shows some states only, nothing is known to show.
func (d *drawing) alarms(w widget, b box) {
	if len(w.Properties.States) > 0 {
		d.nothing(b)
		return
	}
	const tileHeight, tileWidth = 19, 148
	perRow := max(1, int(b.w/tileWidth))
	width := b.w / float64(perRow)
	for i, name := range w.Properties.Alarms {
		x, y := b.x+width*float64(i%perRow), b.y+float64(i/perRow*tileHeight)
		if y+tileHeight > b.y+b.h+4 {
			break
		}
		d.printf(`<rect class="tile" x="%s" y="%s" width="%s" height="%d" rx="3"><title>no data</title></rect>`, px(x), px(y), px(width-5), tileHeight-4)
		d.text(x+6, y+11, "faint", fit(name, width-16, textRune))
	}
}

// plotted is a line of a graph that has its points.
type plotted struct {
	label  string
	points []float64
	empty  bool
}

func (d *drawing) plotted(w widget) []plotted {
	var all []plotted
	if w.ranking.field != "" {
		for _, c := range d.run.contributors(w.ranking, d.axis) {
			all = append(all, plotted{fmt.Sprintf("%s (%d)", c.name, c.count), c.points, false})
		}
		return all
	}
	for _, l := range w.lines {
		points, empty := d.run.points(l, d.axis), true
		for _, v := range points {
			empty = empty && math.IsNaN(v)
		}
		all = append(all, plotted{l.label, points, empty})
	}
	return all
}

func (d *drawing) graph(w widget, b box) {
	lines := d.plotted(w)
	b.h -= d.legend(lines, b)
	const left, under = 34, 14
	plot := box{b.x + left, b.y + 6, b.w - left - 4, b.h - under - 10}
	top := 0.0
	stacked := make([]float64, d.axis.n)
	for _, l := range lines {
		for i, v := range l.points {
			if math.IsNaN(v) {
				continue
			}
			stacked[i] += v
			if top = max(top, v); w.Properties.Stacked {
				top = max(top, stacked[i])
			}
		}
	}
	d.scales(plot, top)
	known := false
	floor := make([]float64, d.axis.n)
	step := niceStep(top)
	scale := plot.h / (step * math.Max(1, math.Ceil(top/step)))
	for i, l := range lines {
		if l.empty {
			continue
		}
		known = true
		if w.Properties.Stacked {
			d.area(plot, i, l.points, floor, scale)
		} else {
			d.curve(plot, i, l.points, scale)
		}
	}
	if !known {
		d.nothing(plot)
	}
}

// niceStep divides an axis up to top into two to five parts.
func niceStep(top float64) float64 {
	if top <= 0 || math.IsInf(top, 0) {
		return 1
	}
	magnitude := math.Pow(10, math.Floor(math.Log10(top/2)))
	for _, m := range []float64{1, 2, 5} {
		if top/(m*magnitude) <= 4 {
			return m * magnitude
		}
	}
	return 10 * magnitude
}

func (d *drawing) scales(plot box, top float64) {
	step := niceStep(top)
	parts := max(1, int(math.Ceil(top/step)))
	for i := range parts + 1 {
		y := plot.y + plot.h - plot.h*float64(i)/float64(parts)
		d.printf(`<path class="grid" d="M%s %sH%s"/>`, px(plot.x), px(y), px(plot.x+plot.w))
		if top > 0 || i == 0 {
			d.text(plot.x-4, y+4, "faint", short(step*float64(i)), end)
		}
	}
	all := d.axis.period * time.Duration(d.axis.n-1)
	for at, step := time.Duration(0), niceTime(all); at <= all && all > 0; at += step {
		d.text(plot.x+plot.w*float64(at)/float64(all), plot.y+plot.h+14, "faint", plain(at), middle)
	}
}

// niceTime divides a time into a few parts.
func niceTime(all time.Duration) time.Duration {
	for _, step := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute,
		2 * time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour} {
		if all/step <= 5 {
			return step
		}
	}
	return max(all/5, time.Hour)
}

// plain writes 2m for 2m0s.
func plain(d time.Duration) string {
	text := strings.TrimSuffix(d.Round(time.Second).String(), "0s")
	if text == "" || !strings.HasSuffix(text, "m") {
		return d.Round(time.Second).String()
	}
	return text
}

// short writes a number in few characters.
func short(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func (d *drawing) place(plot box, i int, v, scale float64) string {
	x := plot.x + plot.w/2
	if d.axis.n > 1 {
		x = plot.x + plot.w*float64(i)/float64(d.axis.n-1)
	}
	return px(x) + " " + px(plot.y+plot.h-v*scale)
}

// curve draws points, joined where no period without data lies between them.
func (d *drawing) curve(plot box, colour int, points []float64, scale float64) {
	var path strings.Builder
	for i, v := range points {
		switch {
		case math.IsNaN(v):
		case i > 0 && !math.IsNaN(points[i-1]):
			path.WriteString("L" + d.place(plot, i, v, scale))
		default:
			at := d.place(plot, i, v, scale)
			path.WriteString("M" + at)
			if i+1 == len(points) || math.IsNaN(points[i+1]) { // alone
				x, y, _ := strings.Cut(at, " ")
				d.printf(`<circle class="s%d" cx="%s" cy="%s" r="1.6"/>`, colour%colours, x, y)
			}
		}
	}
	// Lines that are the same lie upon each other: the later, the thinner.
	d.printf(`<path class="l s%d" stroke-width="%s" d="%s"/>`+"\n", colour%colours, px(max(1.2, 3.2-0.6*float64(colour))), path.String())
}

// area draws points upon those that were drawn before. A period without data adds nothing to them.
func (d *drawing) area(plot box, colour int, points, floor []float64, scale float64) {
	var up, back strings.Builder
	for i, v := range points {
		low := d.place(plot, i, floor[i], scale)
		if !math.IsNaN(v) {
			floor[i] += v
		}
		command := "L"
		if i == 0 {
			command = "M"
		}
		up.WriteString(command + d.place(plot, i, floor[i], scale))
		rest := back.String()
		back.Reset()
		back.WriteString("L" + low + rest)
	}
	d.printf(`<path class="a s%d" d="%s%sZ"/>`+"\n", colour%colours, up.String(), back.String())
}

// legend names the lines from the bottom up and gives the height that it takes.
func (d *drawing) legend(lines []plotted, b box) float64 {
	type spot struct {
		row int
		x   float64
	}
	var spots []spot
	row, x := 0, 0.0
	label := func(l plotted) string {
		if l.empty {
			return fit(l.label+": no data", b.w-14, textRune)
		}
		return fit(l.label, b.w-14, textRune)
	}
	for _, l := range lines {
		width := float64(utf8.RuneCountInString(label(l)))*textRune + 24
		if x > 0 && x+width > b.w+10 {
			row, x = row+1, 0
		}
		spots = append(spots, spot{row, x})
		x += width
	}
	if len(lines) == 0 {
		return 0
	}
	height := float64((row + 1) * lineHeight)
	for i, l := range lines {
		x, y := b.x+spots[i].x, b.y+b.h-height+float64((spots[i].row+1)*lineHeight)-2
		class := ""
		if l.empty {
			class = "faint"
		} else {
			d.printf(`<rect class="s%d" x="%s" y="%s" width="8" height="8" rx="2"/>`, i%colours, px(x), px(y-8))
		}
		d.text(x+12, y, class, label(l))
	}
	return height
}
