# title: video: an encoder's work, frames from a pipe, two threads
# size: {240} frames of 640 x 360, 8-bit; 8 x 8 transforms, quantised, packed by gzip -1
# needs: gcc gzip
# target: 0.95
prepare() {
	cat >"$made/encode.c" <<-'END'
		#include <pthread.h>
		#include <stdint.h>
		#include <stdio.h>
		#include <stdlib.h>

		enum { WIDE = 640, HIGH = 360, THREADS = 2, LOOK = 2 };
		static uint8_t frame[WIDE * HIGH], before[WIDE * HIGH];
		static int8_t out[WIDE * HIGH];
		static pthread_barrier_t begin, end;
		static int over;

		static int difference(int at, int from) {
		    int sum = 0;
		    for (int y = 0; y < 8; y++)
		        for (int x = 0; x < 8; x++)
		            sum += abs(frame[at + y * WIDE + x] - before[from + y * WIDE + x]);
		    return sum;
		}
		static void block(int left, int top) {
		    int at = top * WIDE + left, best = at, least = difference(at, at), d[64], t[64];
		    for (int y = -LOOK; y <= LOOK; y++)
		        for (int x = -LOOK; x <= LOOK; x++) {
		            if (left + x < 0 || left + x > WIDE - 8 || top + y < 0 || top + y > HIGH - 8)
		                continue;
		            int from = at + y * WIDE + x, sum = difference(at, from);
		            if (sum < least)
		                least = sum, best = from;
		        }
		    for (int i = 0; i < 64; i++)
		        d[i] = frame[at + i / 8 * WIDE + i % 8] - before[best + i / 8 * WIDE + i % 8];
		    for (int pass = 0; pass < 2; pass++) {
		        for (int row = 0; row < 8; row++)
		            for (int k = 0; k < 8; k++) {
		                int sum = 0;
		                for (int n = 0; n < 8; n++)
		                    sum += __builtin_parity(k & n) ? -d[row * 8 + n] : d[row * 8 + n];
		                t[k * 8 + row] = sum;
		            }
		        for (int i = 0; i < 64; i++)
		            d[i] = t[i];
		    }
		    for (int i = 0; i < 64; i++)
		        out[at + i / 8 * WIDE + i % 8] = (int8_t)(d[i] / (64 + i * 8));
		}
		static void *work(void *argument) {
		    int mine = (int)(intptr_t)argument;
		    for (;;) {
		        pthread_barrier_wait(&begin);
		        if (over)
		            return NULL;
		        for (int top = mine * 8; top <= HIGH - 8; top += THREADS * 8)
		            for (int left = 0; left <= WIDE - 8; left += 8)
		                block(left, top);
		        pthread_barrier_wait(&end);
		    }
		}
		int main(void) {
		    pthread_t threads[THREADS];
		    pthread_barrier_init(&begin, NULL, THREADS + 1);
		    pthread_barrier_init(&end, NULL, THREADS + 1);
		    for (int i = 0; i < THREADS; i++)
		        if (pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i))
		            return 1;
		    while (fread(frame, sizeof frame, 1, stdin) == 1) {
		        pthread_barrier_wait(&begin);
		        pthread_barrier_wait(&end);
		        if (fwrite(out, sizeof out, 1, stdout) != 1)
		            return 1;
		        for (int i = 0; i < WIDE * HIGH; i++)
		            before[i] = frame[i];
		    }
		    over = 1;
		    pthread_barrier_wait(&begin);
		    for (int i = 0; i < THREADS; i++)
		        pthread_join(threads[i], NULL);
		    return 0;
		}
	END
	cat >"$made/frames.c" <<-'END'
		#include <stdint.h>
		#include <stdio.h>
		#include <stdlib.h>

		static uint8_t frame[640 * 360];
		int main(int argc, char **argv) {
		    for (int n = 0; argc > 1 && n < atoi(argv[1]); n++) {
		        for (int i = 0; i < 640 * 360; i++)
		            frame[i] = (uint8_t)((i % 640 + n) * 3 ^ (i / 640 * 2 - n) * (i / 640) / 64);
		        if (fwrite(frame, sizeof frame, 1, stdout) != 1)
		            return 1;
		    }
		    return 0;
		}
	END
	gcc -O2 -pthread -o "$made/encode" "$made/encode.c"
	gcc -O2 -o "$made/frames" "$made/frames.c"
}

encoded() { "$made/frames" "$(scaled 240)" | "$made/encode" | gzip -1 >encoded.gz; }

run() {
	timed encode encoded
	check "$(gzip -dc encoded.gz | md5sum)"
}
