# title: tmux: two panes
# size: one session
# needs: tmux
run() {
	local tmux=(tmux -S "$here/socket" -f /dev/null)
	"${tmux[@]}" new-session -d -x 80 -y 24 'sh -c "echo left pane; read -r line; stty size; exec cat"'
	"${tmux[@]}" split-window -h 'sh -c "echo right pane; tty >/dev/null && echo on a terminal; exec cat"'
	sleep 1
	# Not before there are two.
	"${tmux[@]}" send-keys -t 0 'and its size' Enter
	# What is typed next is echoed at once: not before the size is there.
	for _ in {1..50}; do
		"${tmux[@]}" capture-pane -p -t 0 | grep -Eq '^[0-9]+ [0-9]+$' && break
		sleep 0.1
	done
	"${tmux[@]}" send-keys -t 0 'typed here' Enter
	sleep 1
	check "$("${tmux[@]}" capture-pane -p -t 0 | grep -v '^ *$')"
	check "$("${tmux[@]}" capture-pane -p -t 1 | grep -v '^ *$')"
	"${tmux[@]}" kill-server
}
