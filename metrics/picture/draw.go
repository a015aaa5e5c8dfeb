package main

import (
	"image/color"
	"io"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	width       = 11 * vg.Inch
	panelHeight = 2.1 * vg.Inch
	storyHeight = 0.6 * vg.Inch
	legendWidth = 2.3 * vg.Inch
	margin      = 0.15 * vg.Inch
	lineWidth   = vg.Length(1.8)
)

// colors are those of a panel's lines.
var colors = []color.Color{
	color.RGBA{0x00, 0x5f, 0xb8, 0xff},
	color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x3d, 0x3d, 0xff},
}

// drawPicture writes the panels, one below the other, as PNG.
func drawPicture(out io.Writer, panels []panel, events []event) error {
	height := vg.Length(len(panels))*panelHeight + storyHeight
	canvas := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(110))
	c := draw.New(canvas)
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())

	var column [][]*plot.Plot
	for _, p := range panels {
		column = append(column, []*plot.Plot{newPlot(p, events)})
	}
	tiles := draw.Tiles{Cols: 1, Rows: len(panels), PadTop: storyHeight, PadBottom: margin, PadLeft: margin, PadRight: legendWidth, PadY: 2 * margin}
	for i, row := range plot.Align(column, tiles, c) { // so that a second is at the same place in all
		column[i][0].Draw(row[0])
		drawLegend(c, panels[i], vg.Point{X: row[0].Max.X + margin, Y: row[0].Max.Y - 3*margin})
	}
	drawStory(c, events)
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(out)
	return err
}

// drawStory numbers what happened; the marks in the panels have the numbers.
func drawStory(c draw.Canvas, events []event) {
	style := textStyle(11, draw.XLeft)
	style.YAlign = draw.YTop
	at := vg.Point{X: c.Min.X + margin, Y: c.Max.Y - margin}
	for i, e := range events {
		words := strconv.Itoa(i+1) + ": " + e.what
		if at.X+style.Width(words) > c.Max.X-margin {
			at = vg.Point{X: c.Min.X + margin, Y: at.Y - style.Height(words)*1.5}
		}
		c.FillText(style, at, words)
		at.X += style.Width(words) + 2*margin
	}
}

// drawLegend names the lines of a panel, from at on downward.
func drawLegend(c draw.Canvas, p panel, at vg.Point) {
	const swatch = 20 * vg.Length(1)
	style := textStyle(10, draw.XLeft)
	style.YAlign = draw.YCenter
	for i, l := range p.lines {
		c.StrokeLine2(draw.LineStyle{Color: colors[i], Width: lineWidth}, at.X, at.Y, at.X+swatch, at.Y)
		c.FillText(style, vg.Point{X: at.X + swatch + 5, Y: at.Y}, l.name)
		at.Y -= style.Height(l.name) * 1.5
	}
}

func newPlot(p panel, events []event) *plot.Plot {
	drawn := plot.New()
	drawn.BackgroundColor = color.Transparent
	drawn.Title.Text = p.title
	drawn.Title.TextStyle = textStyle(12, draw.XCenter)
	drawn.Title.Padding = 6
	for _, axis := range []*plot.Axis{&drawn.X, &drawn.Y} {
		axis.Tick.Label.Font = textStyle(10, draw.XCenter).Font
		axis.Tick.Label.Handler = plot.DefaultTextHandler
	}
	drawn.X.Min, drawn.X.Max = 0, storyEnds.Seconds()
	drawn.X.Tick.Marker = everyTenSeconds{}
	drawn.Y.Tick.Marker = wholeNumbers{}
	if p.log {
		drawn.Y.Scale, drawn.Y.Tick.Marker = plot.LogScale{}, decades{}
	}
	for i, l := range p.lines {
		addLine(drawn, l, colors[i], p.log)
	}
	fitY(drawn, p)
	drawn.Add(marks(events))
	return drawn
}

// fitY leaves room above the lines for the marks.
func fitY(drawn *plot.Plot, p panel) {
	low, high := math.Inf(1), 1.0
	for _, l := range p.lines {
		for _, at := range l.points {
			if at.value > 0 {
				low, high = math.Min(low, at.value), math.Max(high, at.value)
			}
		}
	}
	drawn.Y.Min, drawn.Y.Max = 0, high*1.25
	if p.log {
		drawn.Y.Min = math.Pow(10, math.Floor(math.Log10(math.Min(low, high))))
		drawn.Y.Max = math.Pow(10, math.Ceil(math.Log10(high*1.5)))
	}
}

// addLine draws a line in pieces: between them there is nothing to show.
func addLine(drawn *plot.Plot, l line, c color.Color, log bool) {
	for _, piece := range pieces(l.points, log) {
		drawnLine, err := plotter.NewLine(piece)
		if err != nil {
			continue // there are no points
		}
		drawnLine.Color, drawnLine.Width = c, lineWidth
		drawn.Add(drawnLine)
		if len(piece) == 1 {
			dot, _ := plotter.NewScatter(piece)
			dot.Color, dot.Shape, dot.Radius = c, draw.CircleGlyph{}, lineWidth
			drawn.Add(dot)
		}
	}
}

// pieces leaves out what is not a number, and what has no logarithm.
func pieces(points []point, log bool) (all []plotter.XYs) {
	var piece plotter.XYs
	for _, p := range points {
		if math.IsNaN(p.value) || log && p.value <= 0 {
			if piece != nil {
				all = append(all, piece)
			}
			piece = nil
			continue
		}
		piece = append(piece, plotter.XY{X: p.at, Y: p.value})
	}
	if piece != nil {
		all = append(all, piece)
	}
	return all
}

// marks are vertical lines where something happened.
type marks []event

// Plot implements plot.Plotter.
func (m marks) Plot(c draw.Canvas, drawn *plot.Plot) {
	x, _ := drawn.Transforms(&c)
	style := textStyle(9, draw.XCenter)
	style.YAlign = draw.YTop
	for i, e := range m {
		at := x(e.at)
		c.StrokeLine2(draw.LineStyle{Color: color.Gray{0x90}, Width: 0.8, Dashes: []vg.Length{3, 3}}, at, c.Min.Y, at, c.Max.Y-10)
		c.FillText(style, vg.Point{X: at, Y: c.Max.Y}, strconv.Itoa(i+1))
	}
}

type everyTenSeconds struct{}

// Ticks implements plot.Ticker.
func (everyTenSeconds) Ticks(low, high float64) (ticks []plot.Tick) {
	for at := low; at <= high; at += 10 {
		ticks = append(ticks, plot.Tick{Value: at, Label: strconv.Itoa(int(at)) + " s"})
	}
	return ticks
}

type wholeNumbers struct{}

// Ticks implements plot.Ticker.
func (wholeNumbers) Ticks(_, high float64) (ticks []plot.Tick) {
	step := max(1, math.Pow(10, math.Floor(math.Log10(high))))
	if high/step < 3 && step > 1 {
		step /= 2
	}
	for at := 0.0; at <= high; at += step {
		ticks = append(ticks, plot.Tick{Value: at, Label: strconv.FormatFloat(at, 'f', -1, 64)})
	}
	return ticks
}

type decades struct{}

// Ticks implements plot.Ticker.
func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	for at := low; at <= high*1.001; at *= 10 {
		ticks = append(ticks, plot.Tick{Value: at, Label: strconv.FormatFloat(at, 'f', -1, 64)})
	}
	return ticks
}

func textStyle(size vg.Length, align text.XAlignment) text.Style {
	return text.Style{
		Color:   color.Black,
		Font:    font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
		XAlign:  align,
		Handler: plot.DefaultTextHandler,
	}
}
