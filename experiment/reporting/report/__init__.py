"""report.html: all that a run, or several together, has found, as one page that needs nothing else.

The page is filled in by Jinja, which torch brings along and which escapes every text. Its figures
are SVG drawn by a little script of our own: libraries for charts draw on a canvas, which can be
neither reached by keyboard nor printed well (Chart.js, uPlot), or are larger than the whole page
may be (Plotly, Vega). Curves are computed here; the script only draws what it is given.
"""
