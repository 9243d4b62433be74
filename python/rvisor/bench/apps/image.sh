# title: ImageMagick: a picture
# size: plasma, blur, resize and rotation of one picture of 1,200 pixels square (200 at half scale and below)
# needs: convert identify
# target: 0.8
run() {
	local side
	side=$((SCALE > 50 ? 1200 : 200))
	timed convert convert -size "${side}x$side" plasma:tomato-steelblue -seed 7 -blur 0x4 -resize 50% -rotate 30 out.png
	check "$(identify -format '%m %w %h' out.png)"
}
