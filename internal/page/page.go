// Package page is what s3ferry's pages share: one look, dark and light, and
// charts. A page is one document that asks no other host for anything.
//
// The charts are drawn by uPlot (https://github.com/leeoniya/uPlot, MIT), version
// 1.6.32, as the npm package has it in dist/.
package page

import (
	_ "embed"
	"html/template"
)

//go:embed uplot/uPlot.iife.min.js
var plotScript string

//go:embed uplot/uPlot.min.css
var plotStyle string

//go:embed charts.js
var chartScript string

//go:embed page.css
var pageStyle string

// Style is the style sheet of every page.
func Style() template.CSS {
	return template.CSS(plotStyle + pageStyle) //nolint:gosec // embedded
}

// Script defines the object ferry: charts, and how figures are written.
func Script() template.JS {
	return template.JS(plotScript + chartScript) //nolint:gosec // embedded
}
