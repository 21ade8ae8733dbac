# frozen_string_literal: true

# What an application does beside its worker: `push N` puts work in, `report` prints what Sidekiq's own
# API sees of it as JSON.

require "json"
require_relative "sidekiq_jobs"
require "sidekiq/api"

def push(count)
  half = count / 2
  Sidekiq::Client.push_bulk("class" => CountJob, "args" => (0...half).map { |number| [number] })
  (half...count).each { |number| CountJob.perform_async(number) }
  FailsOnceJob.perform_async("once")
  due = Time.now.to_f + 2
  LaterJob.perform_at(due, due)
end

def report
  stats = Sidekiq::Stats.new
  history = Sidekiq::Stats::History.new(1)
  puts JSON.generate(
    processed: stats.processed, failed: stats.failed, enqueued: stats.enqueued, queues: stats.queues,
    scheduled: stats.scheduled_size, retries: stats.retry_size, dead: stats.dead_size,
    processes: Sidekiq::ProcessSet.new.map { |process| process["tag"] },
    busy: Sidekiq::Workers.new.map { |_, _, work| work["payload"]["class"] },
    waiting: Sidekiq::Queue.new("default").map(&:klass),
    later: Sidekiq::ScheduledSet.new.map(&:klass),
    processed_today: history.processed.values.sum
  )
end

case ARGV[0]
when "push" then push(Integer(ARGV[1]))
when "endless" then EndlessJob.perform_async
end
report
