"""report.html: all that a run, or several together, has found, as one page that needs nothing else.

The page is filled in by Jinja, which torch brings along and which escapes every text. Its figures
are SVG drawn by a little script of our own: the small libraries for charts (Chart.js, uPlot) draw
on a canvas, whose points no keyboard reaches and which is printed as pixels; Plotly, which draws
SVG, takes several times the size of the page. Curves are computed here; the script only draws them.
"""
