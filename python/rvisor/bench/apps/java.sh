# title: OpenJDK: a threaded program
# size: {400} tasks of 200,000 steps on 8 threads
# needs: java javac
# target: 0.7
prepare() {
	cat >"$made/Threads.java" <<-'END'
		import java.util.*;
		import java.util.concurrent.*;

		public class Threads {
		    public static void main(String[] args) throws Exception {
		        int tasks = Integer.parseInt(args[0]);
		        ExecutorService pool = Executors.newFixedThreadPool(8);
		        List<Future<Long>> results = new ArrayList<>();
		        BlockingQueue<Integer> queue = new ArrayBlockingQueue<>(16);
		        for (int i = 0; i < tasks; i++) {
		            final int k = i;
		            results.add(pool.submit(() -> {
		                long sum = 0;
		                for (int j = 0; j < 200000; j++) sum += (j * 31L) % (k + 1);
		                queue.put(k);
		                return sum;
		            }));
		        }
		        long taken = 0;
		        for (int i = 0; i < tasks; i++) taken += queue.take();
		        long sum = 0;
		        for (Future<Long> result : results) sum += result.get();
		        pool.shutdown();
		        System.out.println(sum + " " + taken + " " + pool.awaitTermination(10, TimeUnit.SECONDS));
		    }
		}
	END
	javac -d "$made" "$made/Threads.java"
}

run() {
	timed threads java -cp "$made" Threads "$(scaled 400)"
	check "$(cat out)"
}
