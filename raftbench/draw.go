package main

import (
	"bytes"
	"flag"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// chartFlag defines a flag that takes a file for a chart, and may be repeated.
func chartFlag(flags *flag.FlagSet, name string, files *[]string) {
	flags.Func(name, "draw a chart into `file`, whose name ends in .svg or .png; may be repeated", func(file string) error {
		if ext := filepath.Ext(file); ext != ".svg" && ext != ".png" {
			return fmt.Errorf("%q must end in .svg or .png", file)
		}
		*files = append(*files, file)
		return nil
	})
}

const (
	panelWidth    = 6 * vg.Inch
	panelHeight   = 3.3 * vg.Inch
	captionHeight = 1.35 * vg.Inch
	margin        = 0.2 * vg.Inch
)

var seriesColors = [seriesCount]color.Color{
	floorSeries: color.RGBA{R: 0xc4, G: 0xc8, B: 0xcc, A: 0xff},
	peerSeries:  color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
	ourSeries:   color.RGBA{R: 0x00, G: 0x5f, B: 0xb8, A: 0xff},
}

// drawChart writes panels two abreast, below the caption, as .svg or .png.
func drawChart(out io.Writer, format string, caption []string, names [seriesCount]string, panels []*panel) error {
	columns := min(2, len(panels))
	rows := (len(panels) + 1) / 2
	width, height := max(2, vg.Length(columns))*panelWidth, vg.Length(rows)*panelHeight+captionHeight
	if format == ".png" {
		canvas := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(110))
		drawOn(draw.New(canvas), caption, names, panels, columns, rows)
		_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(out)
		return err
	}
	canvas := vgsvg.New(width, height)
	drawOn(draw.New(canvas), caption, names, panels, columns, rows)
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	_, err := out.Write(withFallbackFonts(svg.Bytes()))
	return err
}

// withFallbackFonts names fonts for those who do not have the one that text
// was measured with; its metrics are Arial's.
func withFallbackFonts(svg []byte) []byte {
	return bytes.ReplaceAll(svg, []byte("font-family:Liberation Sans;"),
		[]byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
}

func drawOn(c draw.Canvas, caption []string, names [seriesCount]string, panels []*panel, columns, rows int) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	drawCaption(c, caption)
	shown := seriesIn(panels)
	drawLegend(c, names, shown)
	tiles := draw.Tiles{
		Cols: columns, Rows: rows,
		PadTop: captionHeight, PadBottom: margin, PadLeft: margin, PadRight: margin,
		PadX: margin, PadY: margin,
	}
	low, high := decades(panels)
	for i, p := range panels {
		newPlot(p, shown, low, high).Draw(tiles.At(c, i%columns, i/columns))
	}
}

// seriesIn returns the series of which some panel has a rate.
func seriesIn(panels []*panel) (shown []int) {
	for series := range seriesCount {
		if slices.ContainsFunc(panels, func(p *panel) bool { return slices.Max(p.rates[series]) > 0 }) {
			shown = append(shown, series)
		}
	}
	return shown
}

func drawCaption(c draw.Canvas, lines []string) {
	y := c.Max.Y - margin
	for i, line := range lines {
		style := textStyle(10, draw.XLeft)
		if i == 0 {
			style = textStyle(15, draw.XLeft)
		}
		style.YAlign = draw.YTop
		c.FillText(style, vg.Point{X: c.Min.X + margin, Y: y}, line)
		y -= style.Height(line) * 1.35
	}
}

// drawLegend names the series at the right of the caption's first line.
func drawLegend(c draw.Canvas, names [seriesCount]string, shown []int) {
	const swatch = 11 * vg.Length(1)
	style := textStyle(12, draw.XLeft)
	style.YAlign = draw.YTop
	x, y := c.Max.X-margin, c.Max.Y-margin
	for _, series := range slices.Backward(shown) {
		x -= style.Width(names[series])
		c.FillText(style, vg.Point{X: x, Y: y}, names[series])
		x -= swatch * 1.5
		fillBar(c, seriesColors[series], x, y-swatch, x+swatch, y)
		x -= swatch * 1.5
	}
}

func newPlot(p *panel, shown []int, low, high float64) *plot.Plot {
	drawn := plot.New()
	drawn.BackgroundColor = color.Transparent
	drawn.Title.Text = p.title
	drawn.Title.TextStyle = textStyle(12, draw.XCenter)
	drawn.Title.TextStyle.YAlign = draw.YTop
	drawn.Title.Padding = 8
	drawn.Add(grid{})
	for i, series := range shown {
		drawn.Add(newBars(p, series, float64(i), float64(len(shown))))
	}
	drawn.NominalX(p.workloads...)
	drawn.X.Tick.Label = textStyle(10, draw.XCenter)
	drawn.X.Tick.Label.YAlign = draw.YTop
	drawn.X.Min, drawn.X.Max = -0.5, float64(len(p.workloads))-0.5
	drawn.Y.Scale, drawn.Y.Tick.Marker = plot.LogScale{}, decadeTicks{}
	drawn.Y.Tick.Label = textStyle(10, draw.XRight)
	drawn.Y.Tick.Label.YAlign = draw.YCenter
	drawn.Y.Min, drawn.Y.Max = low, high
	return drawn
}

func textStyle(size vg.Length, align text.XAlignment) text.Style {
	return text.Style{
		Color:   color.Gray{Y: 0x22},
		Font:    font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
		XAlign:  align,
		YAlign:  draw.YBottom,
		Handler: plot.DefaultTextHandler,
	}
}

// decades returns powers of ten around all rates, the same for all panels, so
// that they can be compared. The higher leaves room for a label.
func decades(panels []*panel) (low, high float64) {
	low, high = math.Inf(1), 0
	for _, p := range panels {
		for _, rates := range p.rates {
			for _, rate := range rates {
				if rate > 0 {
					low, high = min(low, rate), max(high, rate)
				}
			}
		}
	}
	const room = 1.6
	return math.Pow(10, math.Floor(math.Log10(low/room))), math.Pow(10, math.Ceil(math.Log10(high*room)))
}

// decadeTicks marks powers of ten, and what lies between by lines without text.
type decadeTicks struct{}

func (decadeTicks) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for decade := low; decade <= high*1.001; decade *= 10 {
		ticks = append(ticks, plot.Tick{Value: decade, Label: rateLabel(decade)})
		for digit := 2.0; digit < 10 && decade*digit < high; digit++ {
			ticks = append(ticks, plot.Tick{Value: decade * digit})
		}
	}
	return ticks
}

func rateLabel(rate float64) string {
	switch {
	case rate >= 999_999:
		return fmt.Sprintf("%.0fM", rate/1e6)
	case rate >= 999:
		return fmt.Sprintf("%.0fk", rate/1e3)
	}
	return fmt.Sprintf("%.3g", rate)
}

// grid is a plot's faint lines at powers of ten.
type grid struct{}

// Plot implements plot.Plotter.
func (grid) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	line := draw.LineStyle{Color: color.Gray{Y: 0xe4}, Width: 0.5}
	for decade := p.Y.Min * 10; decade <= p.Y.Max*1.001; decade *= 10 {
		c.StrokeLine2(line, c.Min.X, y(decade), c.Max.X, y(decade))
	}
}

// bars is a plot's bars of one series. The library's start at 0, which a
// logarithmic axis does not have; these start at the axis.
type bars struct {
	heights       []float64 // no bar for 0
	labels        []string  // above the group, if any
	width, offset float64   // relative to the room of a workload
	fill          color.Color
}

// newBars returns the bars of one series, whose place is i among n.
func newBars(p *panel, series int, i, n float64) *bars {
	const group = 0.8 // of the room of a workload
	b := &bars{
		heights: p.rates[series],
		width:   group / n,
		offset:  group * (i + 0.5 - n/2) / n,
		fill:    seriesColors[series],
	}
	if series == ourSeries {
		b.labels = p.ratios
	}
	return b
}

// Plot implements plot.Plotter.
func (b *bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for i, height := range b.heights {
		if height <= 0 {
			continue
		}
		center := float64(i) + b.offset
		fillBar(c, b.fill, x(center-b.width/2), c.Min.Y, x(center+b.width/2), y(height))
		if b.labels != nil {
			c.FillText(textStyle(10, draw.XCenter), vg.Point{X: x(center), Y: y(height) + 2}, b.labels[i])
		}
	}
}

func fillBar(c draw.Canvas, fill color.Color, left, bottom, right, top vg.Length) {
	c.FillPolygon(fill, []vg.Point{{X: left, Y: bottom}, {X: left, Y: top}, {X: right, Y: top}, {X: right, Y: bottom}})
}
