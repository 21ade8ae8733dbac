# frozen_string_literal: true

# The jobs of the Sidekiq test, loaded by the worker (`sidekiq -r`) and by the client below.
#
# Every finished job leaves one line in the file that EFFECTS names, outside the server that the test
# judges, and counts itself in a hash inside it.

require "sidekiq"

module Effects
  def self.leave(line)
    File.open(ENV.fetch("EFFECTS"), "a") { |file| file.syswrite("#{line}\n") }
    Sidekiq.redis { |conn| conn.hincrby("effects", line, 1) }
  end
end

class CountJob
  include Sidekiq::Job

  def perform(number)
    Effects.leave("count #{number}")
  end
end

class FailsOnceJob
  include Sidekiq::Job
  sidekiq_options retry: 3
  sidekiq_retry_in { 1 }

  def perform(name)
    first = Sidekiq.redis { |conn| conn.incr("attempts:#{name}") } == 1
    raise "the first attempt fails" if first

    Effects.leave("retried #{name}")
  end
end

class LaterJob
  include Sidekiq::Job

  def perform(due)
    Effects.leave(Time.now.to_f >= due ? "on time" : "too early")
  end
end

# Longer than the worker waits at its stop: goes back to the queue and never finishes here.
class EndlessJob
  include Sidekiq::Job

  def perform
    Sidekiq.redis { |conn| conn.incr("attempts:endless") }
    sleep 600
    Effects.leave("endless")
  end
end

Sidekiq.configure_server do |config|
  config.options[:poll_interval_average] = 0.5
end

# Sidekiq spreads polls and retries of many workers over seconds by chance; one worker needs none of it.
module Promptly
  def rand(*)
    0
  end
end
if Sidekiq.server?
  require "sidekiq/scheduled"
  require "sidekiq/job_retry"
  Sidekiq::JobRetry.prepend(Promptly)
  Sidekiq::Scheduled::Poller.prepend(Promptly)
end
