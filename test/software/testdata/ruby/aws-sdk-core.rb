# frozen_string_literal: true

require 'aws-partitions'
require 'seahorse'

module Aws
  CORE_GEM_VERSION = File.read(File.expand_path('../../VERSION', __FILE__)).strip
end
